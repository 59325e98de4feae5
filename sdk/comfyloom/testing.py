"""Pytest fixtures for programs that use comfyloom; the plugin is active once installed.

    def test_my_launcher(comfyloom_session):
        result = comfyloom_session.run(FluxMeshWorkflow(input_image="render.png", prompt="a robot"))
        assert result.mesh.size

Everything is local and free of charge, and waits between attempts are skipped. It needs the extra
`emulator`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from comfyloom import RunComfySession, Timeouts
    from comfyloom.emulator import Emulator, Fault, ManualClock

_MARK = "comfyloom"


class HastyClock:
    """Real time, but sleeping returns almost at once and counts in full.

    A session with this clock retries at once.
    """

    def __init__(self) -> None:
        self._skipped_s = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return seconds that never decrease."""
        return time.monotonic() + self._skipped_s

    def time(self) -> float:
        """Return the time of day in seconds since 1970."""
        return time.time() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        """Return almost at once, and advance by `seconds`."""
        time.sleep(min(max(seconds, 0.0), 0.002))
        with self._lock:
            self._skipped_s += max(0.0, seconds - 0.002)


class _Account:
    """The account of an emulator, with state files of its own for each test."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self._emulator = emulator
        self._folder = folder

    def environment(self) -> Mapping[str, str]:
        return {
            **self._emulator.environment(),
            "COMFYLOOM_STATE_FILE": str(self._folder / "dev-server.json"),
            "COMFYLOOM_LEDGER": str(self._folder / "ledger.db"),
        }


class Faults:
    """Injects faults into an emulator.

    Attributes:
        names: All faults by name, with their titles; see docs/faults.md.
    """

    def __init__(self, emulator: Emulator) -> None:
        from comfyloom.emulator import SCENARIOS

        self._emulator = emulator
        self.names: Mapping[str, str] = {name: each.title for name, each in SCENARIOS.items()}

    def on(self, *names: str) -> None:
        """Inject the faults of these names.

        Raises:
            ValueError: There is no such fault.
        """
        from comfyloom.emulator import scenario

        found = [scenario(name) for name in names]  # all, or none
        for each in found:
            self._emulator.faults.add(*each.faults)

    def add(self, *faults: Fault) -> None:
        """Inject faults, whose fields say where, when and how often."""
        self._emulator.faults.add(*faults)

    def off(self) -> None:
        """Remove all pending faults."""
        self._emulator.faults.clear()

    def pending(self) -> list[Fault]:
        """Return the faults that have not occurred as often as planned."""
        return self._emulator.faults.pending()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", f"{_MARK}(**options): options of the Emulator behind the comfyloom fixtures"
    )


@pytest.fixture
def comfyloom_emulator(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """A RunComfy account and its machines, emulated for this test.

    Options come from the marker: `@pytest.mark.comfyloom(run_s=30, comfyui_version="0.9.0")`. A
    test that leaves a machine running fails.

    Raises:
        ValueError, TypeError: An option is invalid or unknown.
    """
    from comfyloom.emulator import Emulator

    monkeypatch.setenv("COMFYLOOM_CACHE_DIR", str(tmp_path / "comfyloom-cache"))
    with Emulator(**_options(request)) as emulator:
        yield emulator
        left = [each for each in emulator.state()["machines"] if not each["stopped_at"]]
    if left:
        names = ", ".join(each["server_id"] for each in left)
        pytest.fail(f"{len(left)} machine(s) still running ({names}): was a session not closed?")


@pytest.fixture
def comfyloom_account(
    comfyloom_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Emulator:
    """The same account in environment variables, for code that makes its own session.

    Ledger, state file and, on Linux, configuration files are the test's own, too.
    """
    for name in [name for name in os.environ if name.startswith(("RUNCOMFY_", "COMFYLOOM_"))]:
        if name != "COMFYLOOM_CACHE_DIR":
            monkeypatch.delenv(name)
    for name, value in _Account(comfyloom_emulator, tmp_path).environment().items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return comfyloom_emulator


@pytest.fixture
def comfyloom_timeouts() -> Timeouts:
    """Short time limits for your own session: a silent server must not delay a test."""
    from comfyloom import Timeouts

    return Timeouts(
        poll_s=2.0, submit_s=3.0, upload_s=3.0, download_s=3.0, cancel_s=1.0, ping_s=2.0
    )


@pytest.fixture
def comfyloom_session(
    comfyloom_emulator: Emulator, comfyloom_timeouts: Timeouts, tmp_path: Path
) -> Iterator[RunComfySession]:
    """A session on a machine of that account, stopped after the test."""
    from comfyloom import RunComfySession

    account = _Account(comfyloom_emulator, tmp_path)
    with RunComfySession(account, timeouts=comfyloom_timeouts, clock=HastyClock()) as session:
        yield session


@pytest.fixture
def comfyloom_faults(comfyloom_emulator: Emulator) -> Faults:
    """Fault injection for that account and its machines."""
    return Faults(comfyloom_emulator)


@pytest.fixture
def comfyloom_clock(comfyloom_emulator: Emulator) -> ManualClock:
    """The emulator's time, which passes only with `comfyloom_clock.advance(seconds)`.

    Machines then start at once; runs take their emulated time.
    """
    from comfyloom.emulator import ManualClock

    clock = comfyloom_emulator.clock
    assert isinstance(clock, ManualClock), "comfyloom_clock needs time='manual'"
    return clock


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options of the markers, and those for `comfyloom_clock` if it is used."""
    given: dict[str, Any] = {}
    if any(mark.args for mark in request.node.iter_markers(_MARK)):
        raise TypeError(f"the marker {_MARK} takes options of Emulator by name, such as run_s=60")
    for mark in reversed(list(request.node.iter_markers(_MARK))):
        given |= mark.kwargs
    if "comfyloom_clock" in request.fixturenames:
        given = {"time": "manual", "startup_s": 0.0, **given}
    return given
