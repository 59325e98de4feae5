"""The state file, while other processes, accounts and the platform change things."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, Timeouts
from comfyloom._dev import record as dev_record
from comfyloom._dev.health import DevStatus, HealthCheck
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator
from comfyloom.errors import LedgerError, MachineBusy
from comfyloom.progress import Progress
from comfyloom.settings import Settings
from support import HastyClock, running

Make = Callable[..., Any]


# --- a file that is about something else by now --------------------------------------------------


def test_a_check_never_overwrites_the_record_of_another_machine(
    dev: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev().up()
    file = StateFile(settings.state_file)
    real = dev_record.check_health

    def replaced(state: DevState, api: ServerApi) -> HealthCheck:
        seen = real(state, api)
        file.write(attrs.evolve(state, server_id="another", base_url=""))
        return seen

    monkeypatch.setattr(dev_record, "check_health", replaced)
    first = dev().status()
    assert first.server_id != "another"
    assert first.health == "healthy"
    found = file.read()
    assert (found.server_id, found.base_url) == ("another", "")


def test_the_status_of_another_account_is_not_recorded(dev: Make, settings: Settings) -> None:
    dev().up()
    before = settings.state_file.read_bytes()
    status = dev(user_id="other-user").status()
    assert (status.health, status.reason) == ("unknown", "it belongs to another account")
    assert settings.state_file.read_bytes() == before


def test_a_check_does_not_wait_for_a_file_that_is_being_changed(
    dev: Make, settings: Settings
) -> None:
    up = dev().up()
    before = settings.state_file.read_bytes()
    with StateFile(settings.state_file).locked():
        status = dev().status()
    assert (status.health, status.server_id) == ("healthy", up.server_id)
    assert settings.state_file.read_bytes() == before


def test_a_file_damaged_during_the_start_does_not_leave_the_machine_running(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    """The file cannot keep track of the machine any more, so no later command would find it."""

    def damage(progress: Progress) -> None:
        if "usually" in progress.message:
            settings.state_file.write_text("{")

    with pytest.raises(LedgerError, match="it is not JSON"):
        dev(report=damage).up()
    assert running(emulator) == []


def test_a_file_locked_at_the_end_of_the_start_does_not_leave_the_machine_running(
    emulator: Emulator, settings: Settings
) -> None:
    held = contextlib.ExitStack()

    def lock(progress: Progress) -> None:
        if "ready after" in progress.message:
            held.enter_context(StateFile(settings.state_file).locked())

    impatient = Timeouts(lock_s=0.1)
    server = DevServer(settings, on_progress=lock, timeouts=impatient, clock=HastyClock())
    with held, pytest.raises(MachineBusy):
        server.up()
    assert running(emulator) == []


def test_how_long_a_lock_is_waited_for_is_a_timeout_of_the_caller(settings: Settings) -> None:
    file = StateFile(settings.state_file, Timeouts(lock_s=0.1))
    with file.locked(), pytest.raises(MachineBusy), file.locked():
        pass
    timeouts = Timeouts(lock_s=1.0, ledger_busy_s=1.0)
    assert records_of(settings, timeouts).ledger.timeouts is timeouts


def test_a_health_may_be_given_as_text() -> None:
    assert not DevStatus(health="stopped").is_there  # type: ignore[arg-type]
    assert DevStatus(health="healthy").is_there  # type: ignore[arg-type]
