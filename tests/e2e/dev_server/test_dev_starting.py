"""A dev server that another process started, and that is waited for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, RunComfySession, Timeouts
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, MachineFault
from comfyloom.errors import LedgerError, MachineBusy, MachineError, MachineStartFailed
from comfyloom.settings import Settings
from dev_lab import state_of
from guard_lab import soon
from support import running

Make = Callable[..., Any]
QUICK = Timeouts(start_poll_s=0.1)


@pytest.fixture
def starting(settings: Settings, api: ServerApi) -> Callable[[], DevState]:
    """Launch a machine as another process would, and record it as a dev server that starts."""

    def launch() -> DevState:
        server = api.launch(str(settings.workflow_version_id), settings.server_type[0], 1234)
        state = DevState(
            server_id=server.server_id,
            status="Starting",
            launch_time=api.now(),
            workflow_version=str(settings.workflow_version_id),
            user_id=settings.user_id,
            api_base_url=settings.api_base_url,
            server_type=settings.server_type[0],
            health_status="starting",
            launched_for=1234,
            idle_timeout=1800.0,
            max_duration=3600.0,
        )
        StateFile(settings.state_file).write(state)
        return state

    return launch


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """In real time, because a start must last while it is waited for."""
    with Emulator(time="real", startup_s=1.0, rate_limit=None) as running:
        yield running


@pytest.fixture
def dev(settings: Settings) -> Make:
    def make(**changes: Any) -> DevServer:
        return DevServer(attrs.evolve(settings, **changes), timeouts=QUICK)

    return make


@pytest.fixture
def session(settings: Settings) -> Make:
    return partial(RunComfySession, settings=settings, timeouts=QUICK, start=True)


def test_up_waits_for_the_machine_of_another_process_and_records_it(
    dev: Make, emulator: Emulator, settings: Settings, starting: Callable[[], DevState]
) -> None:
    state = starting()
    status = dev().up()
    assert status.server_id == state.server_id
    assert status.health == "healthy"
    found = state_of(settings)
    assert found.ready_time > 0
    assert found.base_url
    # Its process was killed before it set the lease.
    assert found.stopping_time - found.ready_time == pytest.approx(1800, abs=5)
    assert running(emulator) == [state.server_id]


def test_a_session_that_waited_for_it_records_that_it_is_ready(
    session: Make, settings: Settings, starting: Callable[[], DevState]
) -> None:
    state = starting()
    with session(launch=False) as used:
        assert used.machine.server_id == state.server_id
        found = state_of(settings)
    assert found.ready_time > 0
    assert found.base_url


def test_its_time_counts_from_the_launch(
    dev: Make, emulator: Emulator, settings: Settings, starting: Callable[[], DevState]
) -> None:
    emulator.faults.add(MachineFault(action="error"))
    file = StateFile(settings.state_file)
    state = starting()
    file.write(attrs.evolve(state, launch_time=state.launch_time - 200))
    with pytest.raises(MachineStartFailed) as caught:
        dev().up()
    assert caught.value.elapsed_s >= 200


@pytest.mark.parametrize("user", ["up", "session"])
def test_a_start_that_fails_is_recorded_by_whoever_waited(
    dev: Make,
    session: Make,
    emulator: Emulator,
    settings: Settings,
    starting: Callable[[], DevState],
    user: str,
) -> None:
    emulator.faults.add(MachineFault(action="error"))
    state = starting()
    if user == "up":
        with pytest.raises(MachineStartFailed, match=state.server_id):
            dev().up()
    else:
        ended = pytest.raises(MachineError, match=f"{state.server_id} has ended")
        with ended, session(launch=False):
            pass
    assert not state_of(settings).is_there
    assert dev().status().health == "stopped"


@pytest.mark.parametrize("error", [MachineBusy("locked"), LedgerError("the disk is full")])
def test_a_ready_machine_is_used_even_if_that_cannot_be_recorded(
    dev: Make,
    settings: Settings,
    starting: Callable[[], DevState],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    starting()
    real = StateFile.locked
    calls = 0

    @contextmanager
    def locked(self: StateFile, *arguments: Any, **options: Any) -> Generator[None]:
        nonlocal calls
        calls += 1
        if calls == 2:  # the note that it is ready
            raise error
        with real(self, *arguments, **options):
            yield

    monkeypatch.setattr(StateFile, "locked", locked)
    assert dev().up().health == "healthy"
    assert calls == 3
    assert state_of(settings).ready_time > 0  # the check at the end recorded it


def test_down_learns_from_the_platform_what_an_unseen_machine_has_cost(
    dev: Make, settings: Settings, api: ServerApi, starting: Callable[[], DevState]
) -> None:
    """Nothing recorded that it became ready; the answer to the stop says since when."""
    state = starting()
    assert soon(lambda: api.get_server(state.server_id).is_ready)
    assert state_of(settings).ready_time == 0
    stopped = dev().down(force=True)
    assert stopped.session_cost is not None  # else it would count as not known
    assert state_of(settings).unpriced_s == 0


def test_the_record_of_a_dev_server_is_valid_for_its_longest_duration(
    dev: Make, settings: Settings
) -> None:
    """No process sends heartbeats for it, and the reaper must leave it alone."""
    up = dev().up(duration_s=7200)
    row = records_of(settings).find(up.server_id)
    assert row is not None
    assert row.lease_s > 7200


def test_a_lease_renewed_by_a_session_is_recorded(
    dev: Make, session: Make, settings: Settings, api: ServerApi, starting: Callable[[], DevState]
) -> None:
    """The longest possible cost depends on it."""
    server_id = starting().server_id
    assert soon(lambda: api.get_server(server_id).is_ready)
    api.set_duration(server_id, 100)  # almost over
    dev().status()
    before = state_of(settings)
    assert before.stopping_time - before.ready_time == pytest.approx(100, abs=1)
    with session(launch=False) as used:
        assert used.machine.server_id == server_id
    # A thread renews it, so that a slow platform does not delay a run.
    assert soon(lambda: state_of(settings).stopping_time - before.ready_time >= 1800)
