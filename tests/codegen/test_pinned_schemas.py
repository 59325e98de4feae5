"""`comfyloom codegen schemas` pins the schemas of the node types in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.command import exit_code_of, run
from codegen.samples import FLUX
from codegen.workspace import MakeWorkspace
from comfyloom_codegen.reading.schemas import PinnedSchemas
from comfyloom_codegen.schema_pins import pinned_class, update_pins
from support import ROOT
from ugly import node

ANSWER: dict[str, Any] = {
    "LoadImage": {
        "input": {"required": {"image": [["b.png", "a.png"], {"image_upload": True}]}},
        "output": ["IMAGE"],
        "name": "LoadImage",
        "display_name": "Load Image",
        "description": "loads",
        "category": "image",
    },
    "K": {
        "input": {
            "required": {
                "steps": ["INT", {"min": 1, "max": 9, "tooltip": "many"}],
                "ckpt": [["x.safetensors"]],
                "new": ["COMBO", {"options": ["y.pt"], "tooltip": "z"}],
                "mode": [["fast", "slow"]],
                "any": ["*"],
            }
        },
        "output_node": True,
        "output_tooltips": ["x"],
        "python_module": "custom_nodes.K",
    },
    "Other": {"input": {}},
}


def test_schemas_pins_the_node_types_in_use_from_a_file(
    make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    graph = {"1": node("LoadImage", image="x"), "2": node("K", steps=2), "3": node("Gone")}
    before: dict[str, Any] = {"Gone": {"input": {}}, "Unused": {"input": {}}, "K": {"input": {}}}
    workspace = make_workspace({"a.json": graph, "object_info.json": before})
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(ANSWER), "utf-8")
    done = run("schemas", answer, "--workflows", workspace.workflows)
    assert done.exit_code == 0, done.exception
    assert "object_info.json: 3 node types pinned" in done.output
    assert "  new: LoadImage\n  changed: K\n  no longer in use, removed: Unused\n" in done.output
    assert "warning: the server does not know Gone; its pinned schema is kept" in done.output
    text = (workspace.workflows / "object_info.json").read_text("utf-8")
    pinned = json.loads(text)
    assert list(pinned) == ["Gone", "K", "LoadImage"]
    assert pinned["K"]["input"]["required"] == {
        "steps": ["INT", {"min": 1, "max": 9}],
        "ckpt": ["COMBO", {}],
        "new": ["COMBO", {}],
        "mode": [["fast", "slow"]],
        "any": ["*"],
    }
    assert pinned["K"]["python_module"] == "custom_nodes.K"
    assert pinned["LoadImage"]["input"]["required"]["image"] == ["COMBO", {"image_upload": True}]
    for word in ("tooltip", "png", "safetensors", "category", "description"):
        assert word not in text
    again = run(
        "schemas", workspace.workflows / "object_info.json", "--workflows", workspace.workflows
    )
    assert "new" not in again.output
    assert "changed" not in again.output
    assert (workspace.workflows / "object_info.json").read_text("utf-8") == text
    printed = json.loads(
        run("schemas", answer, "--workflows", workspace.workflows, "--json").stdout
    )
    assert printed["unknown"] == ["Gone"]


def test_schemas_pins_from_a_server(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"flux.json": FLUX.read_text("utf-8")})
    done = run("schemas", "emulator", "--workflows", workspace.workflows)
    assert done.exit_code == 0, done.exception
    ours = json.loads((ROOT / "workflows" / "object_info.json").read_text("utf-8"))
    theirs = json.loads((workspace.workflows / "object_info.json").read_text("utf-8"))
    for each in theirs.values():
        each.pop("python_module", None)
    assert theirs == ours


def test_pinned_schemas_are_kept_while_a_workflow_cannot_be_read(
    make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    before: dict[str, Any] = {"B": {"input": {}}, "K": {"input": {}}}
    workspace = make_workspace(
        {"a.json": {"1": node("K")}, "b.json": "{oops", "object_info.json": before}
    )
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(ANSWER), "utf-8")
    done = run("schemas", answer, "--workflows", workspace.workflows)
    assert exit_code_of(done) == 65
    assert "b.json: line 1" in str(done.exception)
    assert json.loads((workspace.workflows / "object_info.json").read_text("utf-8")) == before


def test_an_unusable_source_of_schemas_is_a_clear_error(
    make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    workspace = make_workspace({"a.json": {"1": node("A")}})
    where = ("--workflows", workspace.workflows)
    assert exit_code_of(run("schemas", tmp_path / "none.json", *where)) == 66
    refused = run("schemas", workspace.workflows / "a.json", *where).exception
    assert "a.json: this is not an /object_info response" in str(refused)
    (tmp_path / "list.json").write_text("[]", "utf-8")
    assert "expected a JSON object" in str(run("schemas", tmp_path / "list.json", *where).exception)
    assert exit_code_of(run("schemas", "http://127.0.0.1:9/", *where)) == 69
    assert exit_code_of(run("schemas", "x", "--workflows", tmp_path / "none")) == 66
    assert not (workspace.workflows / "object_info.json").exists()


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["input", "required", "options", "x"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_answer_of_a_server_can_be_pinned(raw: Any) -> None:
    kept = pinned_class({"input": {"required": {"x": raw}, "optional": raw}, "output": raw})
    assert pinned_class(kept) == kept
    assert update_pins(["A"], {"A": raw}, {}).unknown == (() if isinstance(raw, dict) else ("A",))
    PinnedSchemas({"A": kept}).node("A")
