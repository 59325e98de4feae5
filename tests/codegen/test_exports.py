"""A workflow that was exported again: bindings follow it, and what callers may notice is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyloom._workflow.inputs import Target
from comfyloom.errors import OutputNotWritable
from comfyloom_codegen.bindings.entries import Binding
from comfyloom_codegen.bindings.parsing import parse_binding
from comfyloom_codegen.exports.changes import Change
from comfyloom_codegen.exports.matching import match
from comfyloom_codegen.exports.previous_module import Former
from comfyloom_codegen.exports.rebinding import rebind
from comfyloom_codegen.problems import Findings
from ugly import node

GRAPH: dict[str, Any] = {
    "4": node("CheckpointLoader", "Model", ckpt="a.ckpt"),
    "6": node("Encode", "POSITIVE", text="a cat", clip=["4", 1]),
    "7": node("Encode", "NEGATIVE", text="blur", clip=["4", 1]),
    "3": node("Sample", seed=5, positive=["6", 0], negative=["7", 0]),
    "9": node("SaveImage", "OUT", images=["3", 0]),
}
BINDING = """\
# A comment of the author.
class = "Cat"

[inputs.prompt]
to = ["POSITIVE.text"]   # the cat

[inputs.negative]
to = ["7.text"]

[inputs.seed]
to = [{ node = { id = "3" }, input = "seed" }]

[results.image]
node = "9"

[[stages]]
name = "all"
share = 1
nodes = ["4", "3"]
"""


def renumbered(graph: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """Return a graph with other ids, in links too."""
    made = copy.deepcopy(graph)
    for entry in made.values():
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                entry["inputs"][name] = [ids.get(value[0], value[0]), value[1]]
    return {ids.get(each, each): entry for each, entry in made.items()}


def titled(graph: dict[str, Any], titles: dict[str, str]) -> dict[str, Any]:
    made = copy.deepcopy(graph)
    for each, title in titles.items():
        made[each]["_meta"] = {"title": title}
    return made


def bound(text: str) -> Binding:
    binding = parse_binding(text, "x.toml", Findings("x"))
    assert binding is not None
    return binding


def exported(folder: Any, after: dict[str, Any], binding: str | None = BINDING) -> Any:
    """Return a folder that was generated from GRAPH, with another export in it."""
    made = folder({"a.json": GRAPH, **({"a.toml": binding} if binding is not None else {})})
    report = made.generate()
    assert not report.errors, report.errors
    made.write({"a.json": after})
    return made


def kinds(changes: tuple[Change, ...]) -> dict[str, str]:
    return {change.name: change.kind for change in changes}


# --- which node is which -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {each: str(int(each) + 100) for each in GRAPH},
        {"6": "7", "7": "6"},
        {"3": "4", "4": "3", "9": "1:2"},
    ],
)
@pytest.mark.parametrize("titles", [{}, {"6": "PROMPT"}, {"9": "END", "4": ""}])
def test_nodes_are_found_again(ids: dict[str, str], titles: dict[str, str]) -> None:
    after = renumbered(titled(GRAPH, titles), ids)
    found = match(GRAPH, after)
    assert {old: there.node for old, there in found.items()} == {n: ids.get(n, n) for n in GRAPH}


def test_without_titles_what_a_node_is_linked_with_tells() -> None:
    bare = {n: {key: v for key, v in entry.items() if key != "_meta"} for n, entry in GRAPH.items()}
    same = copy.deepcopy(bare)
    same["6"]["inputs"]["text"] = same["7"]["inputs"]["text"] = "same"
    ids = {"6": "7", "7": "6", "3": "30"}
    found = match(same, renumbered(same, ids))
    assert {old: there.node for old, there in found.items()} == {n: ids.get(n, n) for n in GRAPH}


def test_what_fits_several_is_left_out() -> None:
    old = {"1": node("A", "x", v=1)}
    assert match(old, {"2": node("A", "y", v=1), "3": node("A", "z", v=1)}) == {}
    assert match(old, {"2": node("B", "x", v=1)}) == {}


@given(
    st.dictionaries(
        st.sampled_from("123456"),
        st.tuples(
            st.sampled_from("AB"), st.sampled_from(["", "t", "u"]), st.sampled_from("123456")
        ),
        min_size=1,
    ),
    st.permutations("123456"),
)
def test_matches_are_one_to_one_and_of_one_class(shape: dict[str, Any], order: list[str]) -> None:
    graph = {n: node(cls, title, x=[to, 0]) for n, (cls, title, to) in shape.items()}
    after = renumbered(graph, dict(zip("123456", order, strict=True)))
    found = match(graph, after)
    assert len({there.node for there in found.values()}) == len(found)
    for old, there in found.items():
        assert graph[old]["class_type"] == after[there.node]["class_type"]
    assert {old: there.node for old, there in match(graph, graph).items()} == {n: n for n in graph}


# --- bindings ------------------------------------------------------------------------------------


def test_a_binding_follows_and_keeps_its_comments(folder: Any) -> None:
    ids = {each: str(int(each) + 100) for each in GRAPH}
    made = exported(folder, renumbered(titled(GRAPH, {"6": "PROMPT"}), ids))
    check = made.generate(check=True)
    assert check.drift
    assert len(check.followed) == 6
    assert (made.workflows / "a.toml").read_text("utf-8") == BINDING  # nothing is written
    report = made.generate()
    text = (made.workflows / "a.toml").read_text("utf-8")
    assert text.startswith("# A comment of the author.\n")
    assert 'to = ["PROMPT.text"]   # the cat' in text
    assert 'to = ["NEGATIVE.text"]' in text
    assert 'to = ["Sample.seed"]' in text
    assert 'node = "OUT"' in text
    assert 'nodes = ["Model", "Sample"]' in text
    assert kinds(report.changes) == dict.fromkeys(("prompt", "negative", "seed", "image"), "moved")
    assert not made.generate(check=True).drift
    before = made.files()
    for path in (made.out / made.package).iterdir():
        if path.is_file():
            path.unlink()
    made.generate()
    assert made.files() == before  # without any memory of the export before


def test_a_binding_that_cannot_be_written_leaves_all_as_it_was(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(folder, titled(GRAPH, {"6": "PROMPT"}))
    before = made.files()

    def refuse(path: Path, _: str) -> None:
        raise OutputNotWritable("no", path=str(path))

    with monkeypatch.context() as patched:
        patched.setattr("comfyloom_codegen.pipeline.write_text", refuse)
        with pytest.raises(OutputNotWritable):
            made.generate()
    assert made.files() == before
    assert made.generate().followed  # the export before is still remembered


def test_an_id_that_is_another_nodes_now_is_not_believed(folder: Any) -> None:
    made = exported(folder, renumbered(GRAPH, {"6": "7", "7": "6"}))
    report = made.generate()
    assert 'to = ["NEGATIVE.text"]' in (made.workflows / "a.toml").read_text("utf-8")
    sent = made.module().CatWorkflow(negative="dark").to_graph()
    assert (sent["6"]["inputs"]["text"], sent["7"]["inputs"]["text"]) == ("dark", "a cat")
    assert "by its title" in report.followed[0]


def test_a_new_namesake_does_not_make_a_selector_ambiguous(folder: Any) -> None:
    after = {**GRAPH, "20": node("Encode", "POSITIVE", text="another", clip=["4", 1])}
    made = exported(folder, after)
    report = made.generate()
    assert not report.errors
    assert made.module().CatWorkflow(prompt="dog").to_graph()["6"]["inputs"]["text"] == "dog"


def test_what_is_truly_ambiguous_or_gone_is_refused_and_the_binding_stays(folder: Any) -> None:
    twins = {each: node("Encode", "X", text="new", clip=["9", 0]) for each in ("21", "22")}
    after = {each: entry for each, entry in GRAPH.items() if each not in ("6", "3")} | twins
    made = exported(folder, after)
    before = made.files()
    report = made.generate()
    told = "\n".join(map(str, report.errors))
    assert "inputs.prompt: no node fits 'POSITIVE'" in told
    assert "inputs.seed: no node fits id '3'" in told
    assert (made.workflows / "a.toml").read_text("utf-8") == BINDING
    assert made.files() == before


def test_a_title_that_fits_stays_whatever_else_there_is() -> None:
    binding = 'class = "X"\n[inputs.p]\nto = ["POSITIVE.text"]\n'
    after = titled(GRAPH, {"6": "OLD", "7": "POSITIVE"})  # somebody has changed their roles
    matches = match(GRAPH, after)
    former = Former(inputs={"p": (Target("6", "text"),)}, results={})
    assert rebind(binding, bound(binding), former, GRAPH, after, matches) is None


def test_every_part_of_a_binding_follows() -> None:
    binding = (
        'expose = ["7", "6.text", "*"]\nhide = [{ node = { id = "3" }, input = "seed" }]\n'
        '[inputs.x]\nto = [{ node = "4", input = "ckpt" }]\n'
    )
    after = renumbered(GRAPH, {each: f"1{each}" for each in GRAPH})
    public = (Target("7", "text"), Target("6", "text"))
    former = Former(inputs={"x": (Target("4", "ckpt"),), "y": public}, results={})
    found = rebind(binding, bound(binding), former, GRAPH, after, match(GRAPH, after))
    assert found is not None
    parsed = bound(found.text)
    assert [each.text for each in parsed.expose or []] == ["NEGATIVE", "POSITIVE.text", "*"]
    assert [each.text for each in parsed.hide] == ["Sample.seed"]
    assert parsed.inputs["x"].to[0].text == "Model.ckpt"


def test_a_package_that_somebody_edited_is_no_memory(folder: Any) -> None:
    made = exported(folder, renumbered(GRAPH, {"6": "60"}))
    there = made.out / made.package
    for broken in ("{", "[]", '{"1": 3}'):
        (there / "a.json").write_text(broken, "utf-8")
        assert not made.generate(check=True).changes


# --- what callers notice -------------------------------------------------------------------------


def test_names_by_rule_that_change_are_told(folder: Any) -> None:
    after = titled(GRAPH, {"6": "PROMPT"})
    after["20"] = node("Encode", "NEGATIVE", text="more", clip=["4", 1])
    del after["4"]["inputs"]["ckpt"]
    after["4"]["inputs"]["ckpt_name"] = "a.ckpt"
    made = exported(folder, after, binding=None)
    report = made.generate()
    assert kinds(report.changes) == {
        "model_ckpt": "gone",
        "positive_text": "renamed",
        "negative_text": "renamed",
        "model_ckpt_name": "new",
        "negative_20_text": "new",
        "negative_20": "new",
    }
    told = "\n".join(map(str, report.changes))
    assert "a.json: positive_text: is called prompt_text now" in told
    assert "negative_text: is called negative_7_text now" in told
    assert "has no input 'ckpt' any more; nearest is 'ckpt_name'" in told


def test_an_input_that_is_linked_now_and_a_node_that_is_gone(folder: Any) -> None:
    after = copy.deepcopy(GRAPH)
    after["40"] = node("PrimitiveString", "PROMPT", value="a cat")
    after["6"]["inputs"]["text"] = ["40", 0]
    after["9"] = node("SaveWEBM", "OUTPUT", images=["3", 0])
    made = exported(folder, after, binding=None)
    told = "\n".join(map(str, made.generate().changes))
    assert "input 'text' of node 6 (Encode, 'POSITIVE') is linked to node 40" in told
    assert (
        "out: is gone: node 9 (SaveImage, 'OUT') is gone; nearest: 9 (SaveWEBM, 'OUTPUT')" in told
    )


def test_the_same_export_in_another_order_or_layout_changes_nothing(folder: Any) -> None:
    made = exported(folder, GRAPH)
    made.write({"a.json": json.dumps(GRAPH, indent=7)})
    report = made.generate()
    assert report.changes == report.followed == ()


# --- when something goes wrong, or somebody has been there ----------------------------------------

SWAPPED = renumbered(GRAPH, {"6": "7", "7": "6"})


def prompt_goes_to(made: Any) -> str:
    """Return which text the prompt of the generated class replaces."""
    import importlib
    import sys

    for name in [each for each in sys.modules if each.partition(".")[0] == made.package]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sent = made.module().CatWorkflow(prompt="MINE").to_graph()
    (title,) = [e["_meta"]["title"] for e in sent.values() if e["inputs"].get("text") == "MINE"]
    return str(title)


def test_a_binding_that_somebody_has_mended_is_not_followed_again(folder: Any) -> None:
    by_id = 'class = "Cat"\n[inputs.prompt]\nto = ["6.text"]\n'
    made = exported(folder, SWAPPED, by_id)
    made.write({"a.toml": by_id.replace("6.text", "7.text")})
    assert not made.generate().followed
    assert prompt_goes_to(made) == "POSITIVE"


def test_a_run_that_ended_between_binding_and_package_is_made_up_for(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id = 'class = "Cat"\n[inputs.prompt]\nto = ["6.text"]\n'
    made = exported(folder, SWAPPED, by_id)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("comfyloom_codegen.pipeline.mend", die)
        with pytest.raises(KeyboardInterrupt):
            made.generate()
    assert not made.generate().followed
    assert prompt_goes_to(made) == "POSITIVE"


def test_a_binding_stays_while_its_class_is_refused(folder: Any) -> None:
    by_id = 'class = "Cat"\n[inputs.prompt]\nto = ["6.text"]\n'
    made = exported(folder, SWAPPED, by_id)
    made.write({"b.json": GRAPH, "b.toml": 'class = "Cat"\n'})
    report = made.generate()
    assert "would be the class 'CatWorkflow' too" in str(report.errors[0])
    assert (made.workflows / "a.toml").read_text("utf-8") == by_id
    assert not report.followed
    for name in ("b.json", "b.toml"):
        (made.workflows / name).unlink()
    assert made.generate().followed
    assert prompt_goes_to(made) == "POSITIVE"


def test_a_new_node_with_the_old_title_is_not_taken_for_the_old_one(folder: Any) -> None:
    default = "CLIP Text Encode (Prompt)"
    old = {"6": node("Encode", default, text="a cat"), "9": node("SaveImage", images=["6", 0])}
    new = {**titled(old, {"6": "POSITIVE"}), "20": node("Encode", default, text="more")}
    found = match(old, new)
    assert found["6"].node == "6"


def test_an_id_of_a_node_that_is_gone_is_not_another_nodes(folder: Any) -> None:
    by_id = 'class = "Cat"\n[inputs.prompt]\nto = ["6.text"]\n[results.image]\nnode = "9"\n'
    after = {
        "6": node("Note", text="remember"),
        "16": node("Encode", "x", text="1", clip=["6", 0]),
        "17": node("Encode", "x", text="2", clip=["6", 0]),
        "9": node("SaveImage", "OUT", images=["16", 0]),
    }
    made = exported(folder, after, by_id)
    report = made.generate()
    assert "a.toml: inputs.prompt: node 6 (Encode, 'POSITIVE') is gone" in str(report.errors[0])
    assert "its id is that of node 6 (Note) now: name another" in str(report.errors[0])
    made.write({"a.toml": by_id.replace("6.text", "Note.text")})  # said on purpose, it is fine
    assert not made.generate().errors


def test_tables_in_a_row_follow_too(folder: Any) -> None:
    tables = 'class = "Cat"\n[[inputs.prompt.to]]\nnode = { id = "6" }\ninput = "text"\n'
    made = exported(folder, renumbered(GRAPH, {"6": "60"}), tables)
    assert made.generate().followed
    assert prompt_goes_to(made) == "POSITIVE"
    assert not made.generate(check=True).drift


def test_links_ends_of_line_and_modes_of_a_binding_stay(folder: Any, tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_bytes(BINDING.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    made = folder({"a.json": GRAPH})
    (made.workflows / "a.toml").symlink_to(real)
    made.generate()
    made.write({"a.json": renumbered(GRAPH, {"7": "70"})})
    assert made.generate().followed
    assert (made.workflows / "a.toml").is_symlink()
    assert real.read_bytes().count(b"\r\n") == BINDING.count("\n")
    assert real.stat().st_mode & 0o777 == 0o640


edits = st.lists(
    st.one_of(
        st.tuples(st.just("title"), st.sampled_from("34679"), st.sampled_from("XYZ")),
        st.tuples(st.just("text"), st.sampled_from("67"), st.sampled_from("uv")),
        st.tuples(st.just("node"), st.sampled_from("12"), st.sampled_from("XYZ")),
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(order=st.permutations("3467958"), edits=edits)
def test_a_binding_by_ids_follows_whatever_happened_to_ids(order: list[str], edits: Any) -> None:
    after = copy.deepcopy(GRAPH)
    for kind, which, what in edits:
        if kind == "title":
            after[which]["_meta"] = {"title": what}
        elif kind == "text":
            after[which]["inputs"]["text"] = what
        else:
            after[which] = node("Other", what, text="a cat", clip=["4", 1])
    ids = dict(zip("3467912", order, strict=True))
    found = match(GRAPH, renumbered(after, ids))
    for old, there in found.items():
        assert there.node == ids[old], (old, there)
    # What has kept its class, of which there is one only, is always found.
    assert {"3", "4", "9"} <= set(found)


def test_generators_that_are_killed_leave_nothing_wrong(tmp_path: Path) -> None:
    import random
    import signal
    import subprocess
    import sys
    import time

    from comfyloom_codegen import generate

    flows, out = tmp_path / "flows", tmp_path / "out"
    flows.mkdir()
    by_id = '[inputs.prompt]\nto = ["6.text"]\n'
    count = 8

    def write(graph: dict[str, Any]) -> None:
        for number in range(count):
            (flows / f"f{number}.json").write_text(json.dumps(graph), "utf-8")

    write(GRAPH)
    for number in range(count):
        (flows / f"f{number}.toml").write_text(by_id, "utf-8")
    generate(flows, out, "flows").raise_for_errors()
    code = (
        "import sys; from comfyloom_codegen import generate;"
        "print(flush=True); generate(*sys.argv[1:])"
    )
    chance, graph = random.Random(5), GRAPH
    for _ in range(12):
        graph = SWAPPED if graph is GRAPH else GRAPH
        write(graph)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(flows), str(out), "flows"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.12)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        generate(flows, out, "flows").raise_for_errors()
        positive = next(n for n, e in graph.items() if e["_meta"]["title"] == "POSITIVE")
        for number in range(count):
            text = (out / "flows" / f"f{number}.py").read_text("utf-8")
            assert f'inputs.text("{positive}.text"' in text
            assert json.loads((out / "flows" / f"f{number}.json").read_text("utf-8")) == graph
        assert not list(tmp_path.rglob("*.part"))


def test_whole_nodes_that_are_exposed_or_hidden_by_id_follow(folder: Any) -> None:
    binding = 'class = "Cat"\nexpose = ["*"]\nhide = ["6"]\n[inputs.more]\nto = ["NEGATIVE.text"]\n'
    made = exported(folder, renumbered(GRAPH, {"6": "16", "7": "6"}), binding)
    before = set(made.module().CatWorkflow.__workflow__.inputs)
    report = made.generate()
    assert 'hide = ["POSITIVE"]' in (made.workflows / "a.toml").read_text("utf-8")
    assert kinds(report.changes) == {"more": "moved"}
    assert len(before) == 3


def test_a_new_name_for_another_result_of_the_same_node(folder: Any) -> None:
    names = '[results.a]\nnode = "OUT"\n[results.b]\nnode = "OUT"\nkind = "json"\n'
    made = exported(folder, renumbered(GRAPH, {"7": "70"}), names)
    made.write({"a.toml": names.replace("results.a", "results.c")})
    assert kinds(made.generate().changes)["a"] == "renamed"
    made = exported(folder, renumbered(GRAPH, {"9": "90"}), None)
    package = made.out / made.package / "a.py"
    for broken in ('x: str = inputs.text("zzz")', "x: str = inputs.text(foo())"):
        text = package.read_text("utf-8")
        package.write_text(
            text.replace("seed: int | None", f"{broken}\n    seed: int | None"), "utf-8"
        )
        assert made.generate(check=True).outcomes
