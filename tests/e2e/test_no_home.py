"""A user without a home, as containers have them: an emulator works, and nothing is left on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from comfyloom.emulator import Emulator
from shells import COMMAND
from support import RENDER, machines, running

NO_HOME = """
import pwd

def getpwuid(uid):
    raise KeyError(uid)

pwd.getpwuid = getpwuid
"""


def command(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(NO_HOME)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return subprocess.run(
        [*COMMAND, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **environ},
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


RUN = ("run", "flux-mesh", "--input-image", str(RENDER), "--prompt", "x", "--out", "out")


def test_the_demo_runs(tmp_path: Path) -> None:
    done = command(tmp_path, "demo", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "out" / "flux.png").exists()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["out"]  # no folder ~


def test_no_machine_is_launched_without_a_ledger(tmp_path: Path) -> None:
    with Emulator() as emulator:
        done = command(tmp_path, *RUN, **emulator.environment())
        assert done.returncode == 78
        assert "COMFYLOOM_LEDGER" in done.stderr
        assert "Traceback" not in done.stderr
        assert machines(emulator) == []


def test_with_a_ledger_it_runs(tmp_path: Path) -> None:
    with Emulator() as emulator:
        environ = emulator.environment() | {"COMFYLOOM_LEDGER": str(tmp_path / "ledger.db")}
        done = command(tmp_path, *RUN, **environ)
        assert done.returncode == 0, done.stderr
        assert running(emulator) == []
        assert len(machines(emulator)) == 1


@pytest.mark.parametrize(
    "arguments",
    [("doctor",), ("dev", "status"), ("dev", "down"), ("machines", "list"), ("machines", "reap")],
)
def test_no_command_breaks(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Emulator() as emulator:
        done = command(tmp_path, *arguments, **emulator.environment())
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 3, 69, 78), done.stderr
