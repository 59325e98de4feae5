"""`comfyloom codegen --verify` imports and type-checks the generated package."""

from __future__ import annotations

import pytest

from codegen.command import run_in
from codegen.workspace import MakeWorkspace
from comfyloom.errors import ConfigError, WorkflowError
from comfyloom_codegen.verifying import verify
from ugly import UGLY, node


def test_verify_imports_and_type_checks(make_workspace: MakeWorkspace) -> None:
    pytest.importorskip("mypy")
    workspace = make_workspace({"a.json": UGLY["values"]})
    done = run_in(workspace, "--verify")
    assert done.exit_code == 0, done.exception
    assert "imported, and every workflow built\ntype-checked with mypy (strict)" in done.output
    path = workspace.package_folder / "a.py"
    path.write_text(path.read_text("utf-8") + "\nx: int = 'no'\n", "utf-8")
    with pytest.raises(WorkflowError, match=r"failed a check \(mypy\):\n.*Incompatible types"):
        verify(workspace.out, workspace.package)
    path.write_text("raise OSError('broken')\n", "utf-8")
    with pytest.raises(WorkflowError, match="failed a check \\(import\\)"):
        verify(workspace.out, workspace.package)


DEMANDS = """
[inputs.mode]
choices = ["fast", "slow"]
required = true
to = ["1.mode"]
[inputs.steps]
kind = "integer"
ge = 3
required = true
to = ["1.steps"]
[inputs.on]
kind = "flag"
required = true
to = ["1.on"]
"""


def test_verify_builds_a_workflow_with_any_required_inputs(make_workspace: MakeWorkspace) -> None:
    pytest.importorskip("mypy")
    graph = {"1": node("A", mode=["2", 0], steps=["2", 0], on=["2", 0]), "2": node("B")}
    workspace = make_workspace({"a.json": graph, "a.toml": DEMANDS})
    assert not workspace.generate().errors
    assert verify(workspace.out, workspace.package)


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_verify_is_strict(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch, checker: str
) -> None:
    pytest.importorskip(checker)
    monkeypatch.setattr("comfyloom_codegen.verifying._CHECKERS", (checker,))
    workspace = make_workspace({"a.json": UGLY["values"]})
    workspace.generate()
    verify(workspace.out, workspace.package)
    path = workspace.package_folder / "a.py"
    path.write_text(path.read_text("utf-8") + "\n\ndef f(x):\n    return x\n", "utf-8")
    with pytest.raises(WorkflowError, match=f"failed a check \\({checker}\\)"):
        verify(workspace.out, workspace.package)


def test_verify_without_a_type_checker_names_what_to_install(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install mypy"):
        verify(make_workspace({}).out, "x")
