"""Call `comfyloom codegen` inside the test process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from codegen.workspace import Workspace
from comfyloom.errors import exit_code
from comfyloom_codegen.cli import codegen


def run(*arguments: str | Path) -> Result:
    """Return the result of the command with these arguments."""
    return CliRunner().invoke(codegen, [str(each) for each in arguments])


def run_in(workspace: Workspace, *options: str) -> Result:
    """Return the result of the command for a workspace."""
    return run(*locations(workspace), *options)


def locations(workspace: Workspace) -> tuple[str | Path, ...]:
    """Return the options that select a workspace."""
    return (
        *("--workflows", workspace.workflows),
        *("--out", workspace.out),
        *("--package", workspace.package),
    )


def exit_code_of(result: Result) -> int:
    """Return the exit code of the SDK's command line for the exception of a command."""
    assert result.exception is not None
    return exit_code(result.exception)
