"""Damaged or extreme input is reported in one line, without a traceback."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from codegen.command import run
from codegen.samples import GOOD
from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    problem_text,
)
from comfyloom_codegen.schema_pins import update_pins
from ugly import node


def test_a_malformed_meta_is_not_a_title(make_workspace: MakeWorkspace) -> None:
    graph = {
        str(n): {**node("A", x=1), "_meta": meta} for n, meta in enumerate(["x", [1], 3, None])
    }
    workspace = make_workspace({"a.json": graph})
    report = workspace.generate()
    assert not report.errors
    assert workspace.module().AWorkflow().to_graph() == graph


@pytest.mark.parametrize("levels", [120, 300, 900, 990, 5000])
def test_values_of_any_depth_generate_or_are_refused(
    make_workspace: MakeWorkspace, levels: int
) -> None:
    text = '{"1": {"inputs": {"v": %s}, "class_type": "A"}}'
    value = '{"x": ' * levels + "1" + "}" * levels
    workspace = make_workspace({"deep.json": text % value, "good.json": GOOD})
    report = workspace.generate()
    states = {outcome.file: outcome.state for outcome in report.outcomes}
    assert states["good.json"] == "written"
    if states["deep.json"] == "written":
        assert workspace.module().DeepWorkflow().to_graph()
    else:
        assert "deep.json: " in problem_text(report)


@pytest.mark.parametrize(
    "text", ["x = " + "9" * 5000, "x = " + "[" * 3000, "x = 1979-05-27", "[a.b]\n[a.b]"]
)
def test_an_invalid_binding_is_reported_with_its_file(
    make_workspace: MakeWorkspace, text: str
) -> None:
    report = make_workspace({"a.json": GOOD, "a.toml": text}).generate()
    assert report.errors
    assert all(problem.file == "a.toml" for problem in report.errors)


def test_lone_surrogates_are_written_as_escapes(
    make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    half = "\ud800"
    graph = {half: node("A", text=half), "1": {"inputs": {f"{half}seed": 5}, "class_type": "B"}}
    workspace = make_workspace({"a.json": graph})
    done = run("init", workspace.workflows / "a.json")
    assert done.exit_code == 0, done.exception
    assert not workspace.generate().errors
    pins = update_pins(
        ["A"], {"A": {"input": {"required": {"x": ["STRING", {"default": half}]}}}}, {}
    )
    (tmp_path / "x").write_text(pins.text, "utf-8")
    assert json.loads(pins.text)["A"]["input"]["required"]["x"][1]["default"] == half


def test_a_damaged_chunk_does_not_hide_the_next(generate_package: GeneratePackage) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return len(body).to_bytes(4, "big") + kind + body + crc.to_bytes(4, "big")

    damaged = chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 99)[:10])
    wrong = chunk(b"iTXt", b"other\0\0\0\0\0\xff\xfe")
    right = chunk(b"tEXt", b"prompt\0" + json.dumps(GOOD).encode())
    content = b"\x89PNG\r\n\x1a\n" + damaged + wrong + right + chunk(b"IEND", b"")
    report, package = generate_package({"a.png": content})
    assert not report.problems
    assert package.AWorkflow().to_graph() == GOOD
