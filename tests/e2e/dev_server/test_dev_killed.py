"""`kill -9` at any moment of `dev up`: no second machine, and none that is not recorded."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from comfyloom import DevServer
from comfyloom._records.dev_state_file import StateFile
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.settings import Settings
from guard_lab import guards_of, soon
from shells import COMMAND, bare_environment
from support import HastyClock, running


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.5, rate_limit=None) as running:
        yield running


def start_dev_up(emulator: Emulator, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "dev", "up"],
        env=bare_environment(folder) | emulator.environment(),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def dev_server(emulator: Emulator, folder: Path) -> DevServer:
    given = Settings.of_environment(emulator.environment())
    file = folder / ".comfyloom" / "dev-server.json"
    return DevServer(attrs.evolve(given, state_file=file), clock=HastyClock())


@pytest.mark.parametrize("after_s", [0.3, 0.4, 0.5, 0.6, 0.8, 1.2])
def test_a_kill_at_any_time_leaves_at_most_one_known_machine(
    emulator: Emulator, tmp_path: Path, after_s: float
) -> None:
    process = start_dev_up(emulator, tmp_path)
    time.sleep(after_s)
    process.kill()
    process.wait(30)
    dev = dev_server(emulator, tmp_path)
    up = dev.up()
    assert running(emulator) == [up.server_id]
    dev.down()
    assert running(emulator) == []


@pytest.mark.parametrize("then", ["up", "down"])
def test_a_kill_between_a_launch_and_its_answer_leaves_no_machine(
    emulator: Emulator, tmp_path: Path, then: str
) -> None:
    emulator.faults.add(
        HttpFault(action="answer_late", path="/servers$", method="POST", seconds=30.0)
    )
    process = start_dev_up(emulator, tmp_path)
    begun = time.monotonic()
    while not running(emulator):
        assert time.monotonic() - begun < 20
        time.sleep(0.01)
    process.kill()
    process.wait(30)
    dev = dev_server(emulator, tmp_path)
    assert dev.status().health == "launching"
    if then == "up":
        second = dev.up().server_id
        assert running(emulator) == [second]
    dev.down()
    assert running(emulator) == []


def test_a_kill_while_the_recorded_machine_starts_keeps_it(
    emulator: Emulator, tmp_path: Path
) -> None:
    """Its start is paid for: the guard must not stop what the state file keeps track of."""
    file = StateFile(tmp_path / ".comfyloom" / "dev-server.json")
    process = start_dev_up(emulator, tmp_path)
    assert soon(lambda: bool(file.read().server_id) and not guards_of(process.pid))
    process.kill()
    process.wait(30)
    (machine,) = running(emulator)
    dev = dev_server(emulator, tmp_path)
    assert dev.up().server_id == machine
    dev.down()
    assert running(emulator) == []
