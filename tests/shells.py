"""Run `comfyloom` as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "from comfyloom.cli import main; main()"]

Completed = subprocess.CompletedProcess[str]
Shell = Callable[..., Completed]


def bare_environment(home: Path) -> dict[str, str]:
    """Return the environment of a user without an account."""
    nobody = "http://127.0.0.1:1"  # is asked whose token it is
    return {"PATH": os.environ["PATH"], "HOME": str(home), "RUNCOMFY_WEB_BASE": nobody}


def shell_at(folder: Path, environ: Mapping[str, str]) -> Shell:
    """Return a function that runs `comfyloom` in a folder, without any other account.

    Args:
        folder: Where to run it, and the home of the user.
        environ: Its variables; a call can replace them.
    """

    def run(*arguments: str, environ: Mapping[str, str] = environ, **options: Any) -> Completed:
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**bare_environment(folder), **environ},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    return run


def failed(done: Completed, code: int, *words: str) -> None:
    """Assert that a command failed with one clear line."""
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("comfyloom: ")]
    assert line == done.stderr.splitlines()[-1]
    assert "may still be running" not in done.stderr
    for word in words:
        assert word in line
    assert "Traceback" not in done.stderr
