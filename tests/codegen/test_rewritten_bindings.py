"""The selectors of a binding are rewritten for a new export."""

from __future__ import annotations

from pathlib import Path

from codegen.reexports import (
    BINDING,
    GRAPH,
    kinds,
    parse,
    reexported,
    renumbered,
    title_of_prompt_node,
    titled,
)
from codegen.workspace import MakeWorkspace
from comfyloom._workflow.input_spec import Target
from comfyloom_codegen.exports.matching import match
from comfyloom_codegen.exports.previous_module import PreviousModule
from comfyloom_codegen.exports.rebinding import rewrite_binding
from ugly import node


def test_selectors_are_rewritten_and_comments_kept(make_workspace: MakeWorkspace) -> None:
    ids = {each: str(int(each) + 100) for each in GRAPH}
    workspace = reexported(make_workspace, renumbered(titled(GRAPH, {"6": "PROMPT"}), ids))
    check = workspace.generate(check=True)
    assert check.drift
    assert len(check.followed) == 6
    assert (workspace.workflows / "a.toml").read_text("utf-8") == BINDING  # nothing is written
    report = workspace.generate()
    text = (workspace.workflows / "a.toml").read_text("utf-8")
    assert text.startswith("# A comment of the author.\n")
    assert 'to = ["PROMPT.text"]   # the cat' in text
    assert 'to = ["NEGATIVE.text"]' in text
    assert 'to = ["Sample.seed"]' in text
    assert 'node = "OUT"' in text
    assert 'nodes = ["Model", "Sample"]' in text
    assert kinds(report.changes) == dict.fromkeys(("prompt", "negative", "seed", "image"), "moved")
    assert not workspace.generate(check=True).drift
    before = workspace.files()
    for path in workspace.package_folder.iterdir():
        if path.is_file():
            path.unlink()
    workspace.generate()
    assert workspace.files() == before  # the previous package is not needed


def test_an_id_that_now_belongs_to_another_node_is_rewritten(make_workspace: MakeWorkspace) -> None:
    workspace = reexported(make_workspace, renumbered(GRAPH, {"6": "7", "7": "6"}))
    report = workspace.generate()
    assert 'to = ["NEGATIVE.text"]' in (workspace.workflows / "a.toml").read_text("utf-8")
    sent = workspace.module().CatWorkflow(negative="dark").to_graph()
    assert (sent["6"]["inputs"]["text"], sent["7"]["inputs"]["text"]) == ("dark", "a cat")
    assert "by its title" in report.followed[0]


def test_a_new_node_with_the_same_title_does_not_make_a_selector_ambiguous(
    make_workspace: MakeWorkspace,
) -> None:
    after = {**GRAPH, "20": node("Encode", "POSITIVE", text="another", clip=["4", 1])}
    workspace = reexported(make_workspace, after)
    report = workspace.generate()
    assert not report.errors
    assert workspace.module().CatWorkflow(prompt="dog").to_graph()["6"]["inputs"]["text"] == "dog"


def test_ambiguous_or_missing_nodes_are_refused_and_the_binding_is_kept(
    make_workspace: MakeWorkspace,
) -> None:
    equal = {each: node("Encode", "X", text="new", clip=["9", 0]) for each in ("21", "22")}
    after = {each: entry for each, entry in GRAPH.items() if each not in ("6", "3")} | equal
    workspace = reexported(make_workspace, after)
    before = workspace.files()
    report = workspace.generate()
    errors = "\n".join(map(str, report.errors))
    assert "inputs.prompt: no node fits 'POSITIVE'" in errors
    assert "inputs.seed: no node fits id '3'" in errors
    assert (workspace.workflows / "a.toml").read_text("utf-8") == BINDING
    assert workspace.files() == before


def test_a_title_that_fits_is_kept() -> None:
    binding = 'class = "X"\n[inputs.p]\nto = ["POSITIVE.text"]\n'
    after = titled(GRAPH, {"6": "OLD", "7": "POSITIVE"})  # the author has swapped their roles
    matches = match(GRAPH, after)
    previous = PreviousModule(inputs={"p": (Target("6", "text"),)}, results={})
    assert rewrite_binding(binding, parse(binding), previous, GRAPH, after, matches) is None


def test_every_part_of_a_binding_is_rewritten() -> None:
    binding = (
        'expose = ["7", "6.text", "*"]\nhide = [{ node = { id = "3" }, input = "seed" }]\n'
        '[inputs.x]\nto = [{ node = "4", input = "ckpt" }]\n'
    )
    after = renumbered(GRAPH, {each: f"1{each}" for each in GRAPH})
    public = (Target("7", "text"), Target("6", "text"))
    previous = PreviousModule(inputs={"x": (Target("4", "ckpt"),), "y": public}, results={})
    found = rewrite_binding(binding, parse(binding), previous, GRAPH, after, match(GRAPH, after))
    assert found is not None
    parsed = parse(found.text)
    assert [each.text for each in parsed.expose or []] == ["NEGATIVE", "POSITIVE.text", "*"]
    assert [each.text for each in parsed.hide] == ["Sample.seed"]
    assert parsed.inputs["x"].to[0].text == "Model.ckpt"


def test_an_id_of_a_deleted_node_does_not_select_another_node(
    make_workspace: MakeWorkspace,
) -> None:
    by_id = 'class = "Cat"\n[inputs.prompt]\nto = ["6.text"]\n[results.image]\nnode = "9"\n'
    after = {
        "6": node("Note", text="remember"),
        "16": node("Encode", "x", text="1", clip=["6", 0]),
        "17": node("Encode", "x", text="2", clip=["6", 0]),
        "9": node("SaveImage", "OUT", images=["16", 0]),
    }
    workspace = reexported(make_workspace, after, by_id)
    report = workspace.generate()
    assert "a.toml: inputs.prompt: node 6 (Encode, 'POSITIVE') is gone" in str(report.errors[0])
    assert "its id now belongs to node 6 (Note): select another node" in str(report.errors[0])
    workspace.write(
        {"a.toml": by_id.replace("6.text", "Note.text")}
    )  # naming it explicitly is fine
    assert not workspace.generate().errors


def test_arrays_of_tables_are_rewritten_too(make_workspace: MakeWorkspace) -> None:
    tables = 'class = "Cat"\n[[inputs.prompt.to]]\nnode = { id = "6" }\ninput = "text"\n'
    workspace = reexported(make_workspace, renumbered(GRAPH, {"6": "60"}), tables)
    assert workspace.generate().followed
    assert title_of_prompt_node(workspace) == "POSITIVE"
    assert not workspace.generate(check=True).drift


def test_symbolic_links_line_endings_and_modes_of_a_binding_are_kept(
    make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    real = tmp_path / "real.toml"
    real.write_bytes(BINDING.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    workspace = make_workspace({"a.json": GRAPH})
    (workspace.workflows / "a.toml").symlink_to(real)
    workspace.generate()
    workspace.write({"a.json": renumbered(GRAPH, {"7": "70"})})
    assert workspace.generate().followed
    assert (workspace.workflows / "a.toml").is_symlink()
    assert real.read_bytes().count(b"\r\n") == BINDING.count("\n")
    assert real.stat().st_mode & 0o777 == 0o640


def test_nodes_exposed_or_hidden_by_id_are_rewritten(make_workspace: MakeWorkspace) -> None:
    binding = 'class = "Cat"\nexpose = ["*"]\nhide = ["6"]\n[inputs.more]\nto = ["NEGATIVE.text"]\n'
    workspace = reexported(make_workspace, renumbered(GRAPH, {"6": "16", "7": "6"}), binding)
    before = set(workspace.module().CatWorkflow.__workflow__.inputs)
    report = workspace.generate()
    assert 'hide = ["POSITIVE"]' in (workspace.workflows / "a.toml").read_text("utf-8")
    assert kinds(report.changes) == {"more": "moved"}
    assert len(before) == 3
