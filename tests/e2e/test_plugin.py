"""The pytest plugin, as a project of its users has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

MINE = """
import pytest

@pytest.mark.comfyloom(comfyui_version="0.9.0")
def test_options(comfyloom_emulator):
    assert comfyloom_emulator._options.comfyui_version == "0.9.0"

def test_leak(comfyloom_emulator):
    comfyloom_emulator.launch_foreign()

def test_no_such_fault(comfyloom_faults):
    assert "socket-dropped" in comfyloom_faults.names
    comfyloom_faults.on("socket-dropped")
    assert len(comfyloom_faults.pending()) == 1
    comfyloom_faults.off()
    assert comfyloom_faults.pending() == []
    with pytest.raises(ValueError, match="no scenario 'no-such'"):
        comfyloom_faults.on("no-such")

@pytest.mark.comfyloom(time="real")
def test_two_times(comfyloom_clock):
    pass
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_example_project_passes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = run_pytest(tmp_path / "examples" / "launcher", "-W", "error")
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_options_faults_and_what_is_left_running(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(MINE, "utf-8")
    done = run_pytest(tmp_path, "--strict-markers")
    assert "3 passed, 2 errors" in done.stdout, done.stdout
    assert "1 machine(s) still running" in done.stdout
    assert "comfyloom_clock needs time='manual'" in done.stdout


@pytest.mark.parametrize("module", ["comfyloom.emulator", "attr", "requests", "numpy"])
def test_a_suite_that_does_not_use_it_loads_nothing(tmp_path: Path, module: str) -> None:
    text = f"import sys\n\ndef test_it():\n    assert {module!r} not in sys.modules\n"
    (tmp_path / "test_it.py").write_text(text, "utf-8")
    done = run_pytest(tmp_path, "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert done.returncode == 0, done.stdout
