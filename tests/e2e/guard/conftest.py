"""An emulated account, and a guard process of this test alone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyloom._guard.guard import Guard, Held
from comfyloom._runcomfy.client import ServerApi, account_url
from comfyloom.emulator import Emulator
from guard_lab import guards_of, soon


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, rate_limit=None) as found:
        yield found


@pytest.fixture
def api(emulator: Emulator) -> Iterator[ServerApi]:
    made = ServerApi(emulator.base_url, emulator.user_id, emulator.token)
    yield made
    made.close()


@pytest.fixture
def guard() -> Iterator[Guard]:
    end_guards()  # of sessions in earlier tests: a test counts its own
    made = Guard()
    yield made
    made.disown()
    end_guards()


def end_guards() -> None:
    """Kill the guards of this process, and wait until they are gone."""
    for pid in guards_of(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert soon(lambda: not guards_of(os.getpid()))


@pytest.fixture
def held(emulator: Emulator, tmp_path: Path) -> Held:
    return Held(
        key="k",
        api=account_url(emulator.base_url, emulator.user_id),
        token=emulator.token,
        server_type="medium",
        seconds=1234,
        before=frozenset(),
        journal=tmp_path / "k.jsonl",
    )
