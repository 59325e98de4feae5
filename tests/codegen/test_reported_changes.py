"""The changes that a new export makes for callers are reported."""

from __future__ import annotations

import copy
import json

from codegen.reexports import (
    GRAPH,
    kinds,
    reexported,
    renumbered,
    titled,
)
from codegen.workspace import MakeWorkspace
from ugly import node


def test_changed_default_names_are_reported(make_workspace: MakeWorkspace) -> None:
    after = titled(GRAPH, {"6": "PROMPT"})
    after["20"] = node("Encode", "NEGATIVE", text="more", clip=["4", 1])
    del after["4"]["inputs"]["ckpt"]
    after["4"]["inputs"]["ckpt_name"] = "a.ckpt"
    workspace = reexported(make_workspace, after, binding=None)
    report = workspace.generate()
    assert kinds(report.changes) == {
        "model_ckpt": "gone",
        "positive_text": "renamed",
        "negative_text": "renamed",
        "model_ckpt_name": "new",
        "negative_20_text": "new",
        "negative_20": "new",
    }
    changes = "\n".join(map(str, report.changes))
    assert "a.json: positive_text: is now called prompt_text" in changes
    assert "negative_text: is now called negative_7_text" in changes
    assert "no longer has an input 'ckpt'; the most similar is 'ckpt_name'" in changes


def test_an_input_that_is_now_linked_and_a_missing_node_are_reported(
    make_workspace: MakeWorkspace,
) -> None:
    after = copy.deepcopy(GRAPH)
    after["40"] = node("PrimitiveString", "PROMPT", value="a cat")
    after["6"]["inputs"]["text"] = ["40", 0]
    after["9"] = node("SaveWEBM", "OUTPUT", images=["3", 0])
    workspace = reexported(make_workspace, after, binding=None)
    changes = "\n".join(map(str, workspace.generate().changes))
    assert "input 'text' of node 6 (Encode, 'POSITIVE') is now linked to node 40" in changes
    assert (
        "out: is gone: node 9 (SaveImage, 'OUT') is gone; similar: 9 (SaveWEBM, 'OUTPUT')"
        in changes
    )


def test_the_same_export_in_another_layout_changes_nothing(make_workspace: MakeWorkspace) -> None:
    workspace = reexported(make_workspace, GRAPH)
    workspace.write({"a.json": json.dumps(GRAPH, indent=7)})
    report = workspace.generate()
    assert report.changes == ()
    assert report.followed == ()


def test_a_new_name_for_another_result_of_the_same_node_is_reported(
    make_workspace: MakeWorkspace,
) -> None:
    names = '[results.a]\nnode = "OUT"\n[results.b]\nnode = "OUT"\nkind = "json"\n'
    workspace = reexported(make_workspace, renumbered(GRAPH, {"7": "70"}), names)
    workspace.write({"a.toml": names.replace("results.a", "results.c")})
    assert kinds(workspace.generate().changes)["a"] == "renamed"
    workspace = reexported(make_workspace, renumbered(GRAPH, {"9": "90"}), None)
    package = workspace.package_folder / "a.py"
    for broken in ('x: str = inputs.text("zzz")', "x: str = inputs.text(foo())"):
        text = package.read_text("utf-8")
        package.write_text(
            text.replace("seed: int | None", f"{broken}\n    seed: int | None"), "utf-8"
        )
        assert workspace.generate(check=True).outcomes
