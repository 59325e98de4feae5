"""Running `comfyloom` as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

COMMAND = [sys.executable, "-c", "from comfyloom.cli import main; main()"]

Completed = subprocess.CompletedProcess[str]
Shell = Callable[..., Completed]


def bare_environment(home: Path) -> dict[str, str]:
    """Return the environment of somebody without any account."""
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


def failed(done: Completed, code: int, *words: str) -> None:
    """Assert that a command failed with one clear line."""
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("comfyloom: ")]
    assert line == done.stderr.splitlines()[-1]
    assert "may still run" not in done.stderr
    for word in words:
        assert word in line
    assert "Traceback" not in done.stderr
