"""`[tool.comfyloom.codegen]`, and the options that override it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.command import exit_code_of, run
from codegen.workspace import MakeWorkspace
from comfyloom.errors import ConfigError, exit_code
from comfyloom_codegen.project import Project
from ugly import node


def test_without_a_project_the_defaults_hold(tmp_path: Path) -> None:
    assert Project.read(tmp_path) == Project()


def test_the_nearest_pyproject_sets_folders_and_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.json").write_text(json.dumps({"1": node("A", x=1)}), "utf-8")
    text = '[tool.comfyloom.codegen]\nworkflows = "flows"\nout = "src"\npackage = "mine"\n'
    (tmp_path / "pyproject.toml").write_text(text, "utf-8")
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Project.read(below) == Project(
        workflows=Path("../../flows"), out=Path(".."), package="mine"
    )
    assert "a.json → AWorkflow" in run().output
    assert (tmp_path / "src" / "mine" / "a.py").is_file()
    assert run("--check").exit_code == 0
    assert run("--package", "other", "--check").exit_code == 1  # what is given counts


def test_misplaced_options_and_missing_files_are_clear_errors(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": {"1": node("A")}})
    done = run("--json", "inspect", workspace.workflows / "a.json")
    assert done.exit_code == 2  # click's own; the command line of the SDK makes it 64
    assert "--json belongs after inspect" in done.output
    assert "is a folder: expected the path of a workflow file" in str(
        run("inspect", workspace.workflows).exception
    )
    missing = run("--workflows", workspace.workflows / "none").exception
    assert "set --workflows or [tool.comfyloom.codegen] in pyproject.toml" in str(missing)


@pytest.mark.parametrize("package", ["json", "comfyloom", "class", "../x"])
def test_a_package_that_would_hide_another_is_refused(
    make_workspace: MakeWorkspace, package: str
) -> None:
    workspace = make_workspace({"a.json": {"1": node("A")}})
    done = run("--workflows", workspace.workflows, "--out", workspace.out, "--package", package)
    assert exit_code_of(done) == 78
    assert not workspace.out.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[tool.comfyloom.codgen]\nout = 'x'", "unknown table tool.comfyloom.codgen; did you mean"),
        ("x = ", "pyproject.toml cannot be read"),
        ("[tool.comfyloom]\ncodegen = 3", "tool.comfyloom.codegen is not a table"),
        ('[tool.comfyloom.codegen]\npackge = "x"', "unknown key 'packge'; did you mean 'package'?"),
        ("[tool.comfyloom.codegen]\nout = 3", "tool.comfyloom.codegen.out: expected a string"),
        ('[tool.comfyloom.codegen]\nout = ""', "codegen.out: expected a string"),
    ],
)
def test_a_wrong_table_is_a_clear_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        Project.read(tmp_path)
    assert reason in str(caught.value)
    assert exit_code(caught.value) == 78
