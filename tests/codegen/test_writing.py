"""What is written, left alone, removed and reported; and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from comfyloom.errors import OutputNotWritable, WorkflowError, exit_code
from comfyloom_codegen import generate
from comfyloom_codegen.cli import codegen

GOOD = {"1": {"inputs": {"text": "x"}, "class_type": "SaveImage"}}


def run(made: Any, *options: str) -> Any:
    places = ["--workflows", str(made.workflows), "--out", str(made.out), "--package", made.package]
    return CliRunner().invoke(codegen, [*places, *options])


def test_a_second_call_changes_nothing_and_prints_nothing_anew(folder: Any) -> None:
    made = folder({"a.json": GOOD, "b.json": GOOD, "b.toml": ""})
    assert {outcome.state for outcome in made.generate().outcomes} == {"written"}
    folder_path = made.out / made.package
    before = {path: path.stat().st_mtime_ns for path in folder_path.iterdir()}
    code = (
        "import sys; from comfyloom_codegen import generate;"
        "report = generate(*sys.argv[1:]);"
        "assert {o.state for o in report.outcomes} == {'unchanged'}, report;"
        "assert not {'jinja2', 'cattrs'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(made.workflows), str(made.out), made.package]
    subprocess.run(command, check=True, timeout=60)
    assert before == {path: path.stat().st_mtime_ns for path in folder_path.iterdir()}


@pytest.mark.parametrize(
    "change", ["workflow", "binding", "schema", "module", "graph", "package", "lost graph"]
)
def test_every_change_is_drift_and_is_mended(folder: Any, change: str) -> None:
    schema = {"SaveImage": {"output_node": True, "input": {"required": {"text": ["STRING"]}}}}
    binding = 'doc = "x"\n[inputs.t]\nto = ["1.text"]\n'
    made = folder({"a.json": GOOD, "a.toml": binding, "object_info.json": schema})
    made.generate()
    assert not made.generate(check=True).drift
    there = made.out / made.package
    changes: dict[str, Any] = {
        "workflow": lambda: made.write({"a.json": {**GOOD, "2": GOOD["1"]}, "a.toml": "doc = 'y'"}),
        "binding": lambda: made.write({"a.toml": binding.replace('"x"', '"y"')}),
        "schema": lambda: made.write({"object_info.json": {}}),
        "module": lambda: (there / "a.py").write_text(made.text("a.py") + "x = 1\n", "utf-8"),
        "graph": lambda: (there / "a.json").write_text("{}", "utf-8"),
        "package": lambda: (there / "__init__.py").write_text(
            made.text("__init__.py") + "\n", "utf-8"
        ),
        "lost graph": lambda: (there / "a.json").unlink(),
    }
    changes[change]()
    before = made.files()
    assert made.generate(check=True).drift
    assert made.files() == before
    made.generate()
    assert not made.generate(check=True).drift


def test_what_has_no_source_is_removed_and_own_files_stay(folder: Any) -> None:
    made = folder({"a.json": GOOD, "b.json": GOOD})
    made.generate()
    there = made.out / made.package
    own = {"mine.py": "x = 1\n", "mine.json": "{}", "notes.json": "{}"}
    for name, text in own.items():
        (there / name).write_text(text, "utf-8")
    (made.workflows / "b.json").unlink()
    check = made.generate(check=True)
    assert [str(d) for d in check.drift] == [
        "__init__.py: differs",
        "b.json: orphaned",
        "b.py: orphaned",
    ]
    made.generate()
    assert set(made.files()) == {
        *("__init__.py", "py.typed", "object_info.json"),
        *("a.py", "a.json"),
        *own,
    }
    assert "BWorkflow" not in made.text("__init__.py")


def test_somebody_elses_module_is_never_overwritten(folder: Any) -> None:
    made = folder({"a.json": GOOD})
    there = made.out / made.package
    there.mkdir(parents=True)
    (there / "a.py").write_text("x = 1\n", "utf-8")
    with pytest.raises(OutputNotWritable, match="not made by comfyloom-codegen"):
        made.generate()
    assert made.text("a.py") == "x = 1\n"


def test_a_folder_that_cannot_be_written(folder: Any) -> None:
    made = folder({"a.json": GOOD})
    made.out.write_text("a file", "utf-8")
    result = run(made)
    assert exit_code(result.exception) == 73
    assert "cannot write" in str(result.exception)


def test_the_command_writes_checks_and_reports(folder: Any) -> None:
    made = folder({"generate_it.json": GOOD})
    missing = run(made, "--check")
    assert missing.exit_code == 1
    assert missing.output.splitlines() == [
        f"{made.package}/{name}: missing"
        for name in (
            "__init__.py",
            "generate_it.json",
            "generate_it.py",
            "object_info.json",
            "py.typed",
        )
    ]
    assert not made.out.exists()
    line = "generate_it.json → GenerateItWorkflow  1 input, 1 result  "
    assert run(made).output == f"{line}written\n"
    assert run(made).output == f"{line}unchanged\n"
    check = run(made, "--check")
    assert (check.exit_code, check.output) == (0, "up to date\n")
    report = json.loads(run(made, "--json").output)
    assert report["outcomes"][0]["workflow"] == "GenerateItWorkflow"


def test_the_command_tells_every_problem_on_a_line_and_exits_65(folder: Any) -> None:
    made = folder({"a.json": "{", "b.json": "[]", "c.json": {**GOOD, "x": 1}})
    result = run(made)
    assert isinstance(result.exception, WorkflowError)
    assert exit_code(result.exception) == 65
    lines = str(result.exception).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["a.json", "b.json"]
    assert result.stderr == "warning: c.json: the key 'x' is no node and is left out\n"
    assert "c.json → CWorkflow" in result.stdout
    assert "a.json → nothing  failed" in result.stdout


def test_a_missing_folder_exits_66(tmp_path: Path) -> None:
    result = CliRunner().invoke(codegen, ["--workflows", str(tmp_path / "none")])
    assert exit_code(result.exception) == 66


def test_an_impossible_package_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD), "utf-8")
    with pytest.raises(Exception, match=r"cannot be named '\.\./x'"):
        generate(tmp_path, tmp_path, "../x")


def test_help() -> None:
    result = CliRunner().invoke(codegen, ["-h"])
    assert result.exit_code == 0
    for option in ("--check", "--workflows", "--out", "--package", "--json", "--force"):
        assert option in result.output
