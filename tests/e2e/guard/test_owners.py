"""Owners that fork or end suddenly: the guard stops their machines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyloom.emulator import Emulator, HttpFault
from guard_lab import soon
from support import running

OWNER = """
import os, sys, time
from comfyloom import RunComfySession

session = RunComfySession(start=True).__enter__()
print(session.machine.server_id, flush=True)
{then}
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, rate_limit=None) as found:
        yield found


def start_owner(emulator: Emulator, folder: Path, then: str) -> subprocess.Popen[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **emulator.environment()}
    return subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)],
        env=environ,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_os_exit_stops_the_machine(emulator: Emulator, tmp_path: Path) -> None:
    with start_owner(emulator, tmp_path, "os._exit(3)") as owner:
        assert owner.wait(20) == 3
    assert soon(lambda: not running(emulator))


def test_a_surviving_fork_does_not_hide_the_owners_death(
    emulator: Emulator, tmp_path: Path
) -> None:
    then = "if os.fork() == 0: time.sleep(12); os._exit(0)\nos.kill(os.getpid(), 9)"
    with start_owner(emulator, tmp_path, then) as owner:
        assert soon(lambda: owner.poll() is not None)
        assert soon(lambda: not running(emulator))
        assert owner.stdout is not None
        owner.stdout.close()


def test_a_fork_does_not_own_the_machine(emulator: Emulator, tmp_path: Path) -> None:
    """It leaves the block, and the machine keeps running."""
    then = (
        "if (child := os.fork()) == 0: session.__exit__(None, None, None); sys.exit(0)\n"
        "os.waitpid(child, 0); print('waiting', flush=True); sys.stdin.read()"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **emulator.environment()}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)],
        env=environ,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        server_id = owner.stdout.readline().strip()
        assert owner.stdout.readline() == "waiting\n"
        assert running(emulator) == [server_id]
        assert owner.stdin is not None
        owner.stdin.close()
        assert owner.wait(20) == 0
    assert running(emulator) == []


def test_a_pipe_to_another_program_closes_with_the_owner(
    emulator: Emulator, tmp_path: Path
) -> None:
    """The platform does not stop the machine: the guard stays, and `| cat` must not wait for it."""
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=500, times=10**6))
    with start_owner(emulator, tmp_path, "os._exit(0)") as owner:
        begun = time.monotonic()
        owner.communicate(timeout=30)
        assert time.monotonic() - begun < 20
    assert len(running(emulator)) == 1
    emulator.faults.clear()
    assert soon(lambda: not running(emulator))
