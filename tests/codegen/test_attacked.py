"""What an attack on the generator found, each with a test."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from comfyloom._workflow.run_values import draw_seeds
from comfyloom.errors import OutputNotWritable
from comfyloom_codegen.cli import codegen
from comfyloom_codegen.schema_pins import pin
from ugly import node

GOOD = {"1": node("SaveImage", text="x")}


def told(report: Any) -> str:
    return "\n".join(map(str, report.problems))


# --- packages ------------------------------------------------------------------------------------


def test_schemas_that_cannot_be_read_change_nothing(folder: Any) -> None:
    schemas = {"SaveImage": {"input": {"required": {"text": ["STRING"]}}, "output_node": True}}
    made = folder({"a.json": GOOD, "object_info.json": schemas})
    made.generate()
    before = made.files()
    for broken in ("{", "[]", '{"x": 1}', json.dumps(GOOD)):
        made.write({"object_info.json": broken})
        report = made.generate()
        assert report.errors
        assert {outcome.state for outcome in report.outcomes} == {"failed"}
        assert made.files() == before
    (made.workflows / "object_info.json").unlink()
    (made.workflows / "object_info.json").symlink_to("nowhere")
    assert "object_info.json: cannot be read" in told(made.generate())


def test_files_that_are_called_as_parts_of_the_package_are(folder: Any) -> None:
    names = ["object info", "importlib", "json", "typing", "comfyloom"]
    made = folder({f"{name}.json": {"1": node("A", x=name)} for name in names})
    report = made.generate()
    assert not report.errors
    package = made.module()
    for name in package.__all__:  # each is imported while the others are there
        assert getattr(package, name)
    for outcome in report.outcomes:
        graph = getattr(package, outcome.workflow)().to_graph()
        assert graph["1"]["inputs"]["x"] == outcome.file.removesuffix(".json")
    assert json.loads(made.text("object_info.json")) == {}
    (made.workflows / "object info.json").unlink()
    made.generate()
    assert "object_info.json" in made.files()


def test_a_long_doc_does_not_make_a_module_somebody_elses(folder: Any) -> None:
    made = folder({"a.json": GOOD, "a.toml": f"doc = '{'long ' * 4000}'\n"})
    made.generate()
    assert not made.generate(check=True).drift
    made.write({"a.json": {"1": node("SaveImage", text="y")}})
    assert not made.generate().errors


@pytest.mark.parametrize("name", ["a·b", "l·l", "मनीष", "ɳ"])
@pytest.mark.parametrize("binding", [None, "doc = 'x'\n"])
def test_letters_that_not_every_tool_takes_for_letters(
    folder: Any, name: str, binding: str | None
) -> None:
    files: dict[str, object] = {f"{name}.json": GOOD}
    made = folder(files if binding is None else {**files, f"{name}.toml": binding})
    report = made.generate()
    assert not report.errors, told(report)
    assert getattr(made.module(), report.outcomes[0].workflow)().to_graph() == GOOD


def test_somebody_elses_data_in_the_package_is_left_alone(folder: Any) -> None:
    made = folder({"a.json": GOOD})
    there = made.out / made.package
    there.mkdir(parents=True)
    (there / "a.json").write_text('["mine"]', "utf-8")
    with pytest.raises(OutputNotWritable, match=r"a\.json was not made by"):
        made.generate()
    assert (there / "a.json").read_text("utf-8") == '["mine"]'


def test_parts_that_a_killed_process_left_are_swept_up(folder: Any) -> None:
    made = folder({"a.json": GOOD})
    made.generate()
    dead, alive = 2**22 + 12345, os.getppid()
    for pid in (dead, alive):
        (made.out / made.package / f".a.py.{pid}.part").write_text("x", "utf-8")
    made.write({"a.json": {"1": node("SaveImage", text="y")}})
    made.generate()
    assert [name for name in made.files() if name.endswith(".part")] == [f".a.py.{alive}.part"]


def test_a_disk_that_is_full_leaves_a_package_that_can_be_imported(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfyloom_codegen import writing

    made = folder({f"{name}.json": GOOD for name in "abc"})
    made.generate()
    (made.workflows / "a.json").rename(made.workflows / "z.json")
    really, room = writing._write, iter(range(1))

    def write(path: Path, text: str) -> None:
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        really(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "_write", write)
        with pytest.raises(OutputNotWritable, match="No space left"):
            made.generate()
    package = made.module()
    assert package.__all__[:2] == ["AResult", "AWorkflow"]
    assert package.AWorkflow().to_graph() == GOOD
    made.generate()
    assert not made.generate(check=True).drift


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "least", "most"),
    [
        ({"max": 1e18}, 0, 10**18),
        ({"max": 10.5}, 0, 10),
        ({"max": -1}, 0, 0),
        ({"min": 100, "max": 200}, 100, 200),
        ({}, 0, 2**64 - 1),
    ],
)
@pytest.mark.parametrize("binding", [None, '[inputs.a_seed]\nto = ["1.seed"]\n'])
def test_seeds_are_drawn_from_what_the_node_takes(
    made: Any, facts: Any, least: int, most: int, binding: str | None
) -> None:
    schemas = {"A": {"input": {"required": {"seed": ["INT", facts]}}, "output_node": True}}
    files = {"a.json": {"1": node("A", seed=least)}, "object_info.json": schemas}
    report, package = made(files if binding is None else {**files, "a.toml": binding})
    assert not report.errors, told(report)
    workflow = package.AWorkflow()
    for draw in (lambda bound: 0, lambda bound: bound):
        (seed,) = draw_seeds(workflow, draw).values()
        assert least <= seed <= most
    assert type(package.AWorkflow.__workflow__.inputs[0].le) is int


def test_a_seed_that_cannot_be_is_refused(folder: Any) -> None:
    schemas = {"A": {"input": {"required": {"seed": ["INT", {"max": 10}]}}}}
    binding = '[inputs.s]\nto = ["1.seed"]\nge = 100\n'
    files = {"a.json": {"1": node("A", seed=1)}, "object_info.json": schemas, "a.toml": binding}
    assert "no seed is at least 100 and at most 10" in told(folder(files).generate())


def test_a_meta_of_any_kind_is_no_title(folder: Any) -> None:
    graph = {
        str(n): {**node("A", x=1), "_meta": meta} for n, meta in enumerate(["x", [1], 3, None])
    }
    made = folder({"a.json": graph})
    report = made.generate()
    assert not report.errors
    assert made.module().AWorkflow().to_graph() == graph


# --- no tracebacks -------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [120, 300, 900, 990, 5000])
def test_values_of_any_depth_generate_or_are_refused(folder: Any, levels: int) -> None:
    text = '{"1": {"inputs": {"v": %s}, "class_type": "A"}}'
    value = '{"x": ' * levels + "1" + "}" * levels
    made = folder({"deep.json": text % value, "good.json": GOOD})
    report = made.generate()
    states = {outcome.file: outcome.state for outcome in report.outcomes}
    assert states["good.json"] == "written"
    if states["deep.json"] == "written":
        assert made.module().DeepWorkflow().to_graph()
    else:
        assert "deep.json: " in told(report)


@pytest.mark.parametrize(
    "text", ["x = " + "9" * 5000, "x = " + "[" * 3000, "x = 1979-05-27", "[a.b]\n[a.b]"]
)
def test_a_binding_of_any_text_is_told_in_a_line(folder: Any, text: str) -> None:
    report = folder({"a.json": GOOD, "a.toml": text}).generate()
    assert report.errors
    assert all(problem.file == "a.toml" for problem in report.errors)


def test_half_letters_go_where_a_file_can_hold_them(folder: Any, tmp_path: Path) -> None:
    half = "\ud800"
    graph = {half: node("A", text=half), "1": {"inputs": {f"{half}seed": 5}, "class_type": "B"}}
    made = folder({"a.json": graph})
    done = CliRunner().invoke(codegen, ["init", str(made.workflows / "a.json")])
    assert done.exit_code == 0, done.exception
    assert not made.generate().errors
    pins = pin(["A"], {"A": {"input": {"required": {"x": ["STRING", {"default": half}]}}}}, {})
    (tmp_path / "x").write_text(pins.text, "utf-8")
    assert json.loads(pins.text)["A"]["input"]["required"]["x"][1]["default"] == half


def test_what_is_no_regular_file_is_not_waited_for(folder: Any) -> None:
    made = folder({"good.json": GOOD})
    os.mkfifo(made.workflows / "fifo.json")
    os.mkfifo(made.workflows / "pipe.png")
    (made.workflows / "folder.json").mkdir()
    (made.workflows / "link.json").symlink_to("nowhere")
    (made.workflows / "good.toml").mkdir()
    lines = told(made.generate())
    assert "fifo.json: is no regular file" in lines
    assert "pipe.png: is no regular file" in lines
    assert "folder.json: cannot be read (Is a directory)" in lines
    assert "link.json: cannot be read" in lines
    assert "good.toml: cannot be read (Is a directory)" in lines


def test_a_damaged_chunk_does_not_hide_the_next(made: Any) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return len(body).to_bytes(4, "big") + kind + body + crc.to_bytes(4, "big")

    damaged = chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 99)[:10])
    wrong = chunk(b"iTXt", b"other\0\0\0\0\0\xff\xfe")
    right = chunk(b"tEXt", b"prompt\0" + json.dumps(GOOD).encode())
    content = b"\x89PNG\r\n\x1a\n" + damaged + wrong + right + chunk(b"IEND", b"")
    report, package = made({"a.png": content})
    assert not report.problems
    assert package.AWorkflow().to_graph() == GOOD


# --- bindings to start from ----------------------------------------------------------------------


@pytest.mark.parametrize("negative", ["3", "4"])
def test_encoders_that_share_a_text(folder: Any, negative: str) -> None:
    graph = {
        "1": node("PrimitiveString", "WORDS", value="a cat"),
        "3": node("CLIPTextEncode", text=["1", 0]),
        "4": node("CLIPTextEncode", text=["1", 0]),
        "5": node("KSampler", seed=1, positive=["3", 0], negative=[negative, 0]),
        "6": node("KSampler", seed=1, positive=["4", 0], negative=["3", 0]),
        "7": node("SaveImage", images=["5", 0]),
    }
    made = folder({"a.json": graph})
    assert CliRunner().invoke(codegen, ["init", str(made.workflows / "a.json")]).exit_code == 0
    report = made.generate()
    assert not report.errors, told(report)


def test_the_files_own_value_beyond_its_schema_warns_in_a_binding_too(folder: Any) -> None:
    schemas = {"A": {"input": {"required": {"cfg": ["FLOAT", {"max": 100.0}]}}}}
    graph = {"1": node("A", cfg=150, **{"": 1})}
    made = folder({"a.json": graph, "object_info.json": schemas})
    assert CliRunner().invoke(codegen, ["init", str(made.workflows / "a.json")]).exit_code == 0
    report = made.generate()
    assert not report.errors, told(report)
    assert "150 is out of range (at most 100), says its schema" in told(report)
    assert made.module().AWorkflow().to_graph() == graph
