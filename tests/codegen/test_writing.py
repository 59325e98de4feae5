"""The files that are written, kept, removed and reported; and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.command import exit_code_of, run, run_in
from codegen.samples import GOOD
from codegen.workspace import MakeWorkspace
from comfyloom.errors import OutputNotWritable, WorkflowError
from comfyloom_codegen import generate


def test_a_second_call_changes_nothing_and_renders_nothing(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": GOOD, "b.json": GOOD, "b.toml": ""})
    assert {outcome.state for outcome in workspace.generate().outcomes} == {"written"}
    package = workspace.package_folder
    before = {path: path.stat().st_mtime_ns for path in package.iterdir()}
    code = (
        "import sys; from comfyloom_codegen import generate;"
        "report = generate(*sys.argv[1:]);"
        "assert {o.state for o in report.outcomes} == {'unchanged'}, report;"
        "assert not {'jinja2', 'cattrs'} & set(sys.modules)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(workspace.workflows),
        str(workspace.out),
        workspace.package,
    ]
    subprocess.run(command, check=True, timeout=60)
    assert before == {path: path.stat().st_mtime_ns for path in package.iterdir()}


@pytest.mark.parametrize(
    "change", ["workflow", "binding", "schema", "module", "graph", "package", "lost graph"]
)
def test_every_change_is_reported_as_drift_and_corrected(
    make_workspace: MakeWorkspace, change: str
) -> None:
    schema = {"SaveImage": {"output_node": True, "input": {"required": {"text": ["STRING"]}}}}
    binding = 'doc = "x"\n[inputs.t]\nto = ["1.text"]\n'
    workspace = make_workspace({"a.json": GOOD, "a.toml": binding, "object_info.json": schema})
    workspace.generate()
    assert not workspace.generate(check=True).drift
    package = workspace.package_folder
    changes: dict[str, Any] = {
        "workflow": lambda: workspace.write(
            {"a.json": {**GOOD, "2": GOOD["1"]}, "a.toml": "doc = 'y'"}
        ),
        "binding": lambda: workspace.write({"a.toml": binding.replace('"x"', '"y"')}),
        "schema": lambda: workspace.write({"object_info.json": {}}),
        "module": lambda: (package / "a.py").write_text(
            workspace.text("a.py") + "x = 1\n", "utf-8"
        ),
        "graph": lambda: (package / "a.json").write_text("{}", "utf-8"),
        "package": lambda: (package / "__init__.py").write_text(
            workspace.text("__init__.py") + "\n", "utf-8"
        ),
        "lost graph": lambda: (package / "a.json").unlink(),
    }
    changes[change]()
    before = workspace.files()
    assert workspace.generate(check=True).drift
    assert workspace.files() == before
    workspace.generate()
    assert not workspace.generate(check=True).drift


def test_modules_without_a_source_are_removed_and_other_files_kept(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": GOOD, "b.json": GOOD})
    workspace.generate()
    package = workspace.package_folder
    own = {"mine.py": "x = 1\n", "mine.json": "{}", "notes.json": "{}"}
    for name, text in own.items():
        (package / name).write_text(text, "utf-8")
    (workspace.workflows / "b.json").unlink()
    check = workspace.generate(check=True)
    assert [str(d) for d in check.drift] == [
        "__init__.py: differs",
        "b.json: orphaned",
        "b.py: orphaned",
    ]
    workspace.generate()
    assert set(workspace.files()) == {
        *("__init__.py", "py.typed", "object_info.json"),
        *("a.py", "a.json"),
        *own,
    }
    assert "BWorkflow" not in workspace.text("__init__.py")


def test_a_module_of_the_user_is_never_overwritten(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": GOOD})
    package = workspace.package_folder
    package.mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n", "utf-8")
    with pytest.raises(OutputNotWritable, match="not made by comfyloom-codegen"):
        workspace.generate()
    assert workspace.text("a.py") == "x = 1\n"


def test_a_folder_that_cannot_be_written_exits_73(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": GOOD})
    workspace.out.write_text("a file", "utf-8")
    result = run_in(workspace)
    assert exit_code_of(result) == 73
    assert "cannot write" in str(result.exception)


def test_the_command_writes_checks_and_reports(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"generate_it.json": GOOD})
    missing = run_in(workspace, "--check")
    assert missing.exit_code == 1
    assert missing.output.splitlines() == [
        f"{workspace.package}/{name}: missing"
        for name in (
            "__init__.py",
            "generate_it.json",
            "generate_it.py",
            "object_info.json",
            "py.typed",
        )
    ]
    assert not workspace.out.exists()
    line = "generate_it.json → GenerateItWorkflow  1 input, 1 result  "
    assert run_in(workspace).output == f"{line}written\n"
    assert run_in(workspace).output == f"{line}unchanged\n"
    check = run_in(workspace, "--check")
    assert (check.exit_code, check.output) == (0, "up to date\n")
    report = json.loads(run_in(workspace, "--json").output)
    assert report["outcomes"][0]["workflow"] == "GenerateItWorkflow"


def test_the_command_reports_each_problem_on_a_line_and_exits_65(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": "{", "b.json": "[]", "c.json": {**GOOD, "x": 1}})
    result = run_in(workspace)
    assert isinstance(result.exception, WorkflowError)
    assert exit_code_of(result) == 65
    lines = str(result.exception).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["a.json", "b.json"]
    assert result.stderr == "warning: c.json: the key 'x' is not a node and is left out\n"
    assert "c.json → CWorkflow" in result.stdout
    assert "a.json → nothing  failed" in result.stdout


def test_a_missing_folder_exits_66(tmp_path: Path) -> None:
    result = run("--workflows", tmp_path / "none")
    assert exit_code_of(result) == 66


def test_an_invalid_package_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD), "utf-8")
    with pytest.raises(Exception, match=r"cannot be named '\.\./x'"):
        generate(tmp_path, tmp_path, "../x")


def test_help_lists_the_options() -> None:
    result = run("-h")
    assert result.exit_code == 0
    for option in ("--check", "--workflows", "--out", "--package", "--json", "--force"):
        assert option in result.output
