"""What a hostile platform, disk or user does to the dev server and its state file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom._machines.account_machines import AccountMachines
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.owner import Owner
from comfyloom._records.tracker import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from comfyloom.errors import (
    ComfyloomError,
    LedgerError,
    MachineError,
    MachineLeak,
)
from comfyloom.progress import Progress
from comfyloom.settings import Settings
from dev_lab import state_of
from support import HastyClock, running

Make = Callable[..., Any]


def asked(emulator: Emulator, method: str) -> list[str]:
    requests = emulator.state()["requests"]
    return [each["path"] for each in requests if each["method"] == method]


# --- stopping asks nothing first ------------------------------------------------------------------


def test_a_machine_that_the_platform_does_not_know_yet_is_stopped(
    emulator: Emulator, settings: Settings, account_machines: AccountMachines, api: ServerApi
) -> None:
    emulator.faults.add(MachineFault(action="late", seconds=20.0))
    server = api.launch(emulator.workflow_version_id, "medium", 1234)
    records_of(settings).record_intent(
        MachineRow(
            key="young",
            kind="session",
            server_type="medium",
            workflow_version=emulator.workflow_version_id,
            launched_for=1234,
            known_servers=frozenset(),
            intended_at=api.now(),
            state_file="",
            heartbeat_at=api.now(),
            lease_s=1234,
            owner=Owner.current(),
            server_id=server.server_id,
        )
    )

    def appears() -> None:  # time passes in the emulator while another client waits
        for _ in range(3):
            emulator.faults.add(HttpFault(action="delay", path="/workflows$", seconds=8.0))
            api.list_workflows()

    late = threading.Timer(0.01, appears)
    late.start()
    account_machines.stop(server.server_id)
    late.join()
    assert running(emulator) == []


@pytest.mark.parametrize("how", ["account_machines", "down"])
def test_a_stop_does_not_ask_the_platform_first(
    emulator: Emulator, dev: Make, account_machines: AccountMachines, settings: Settings, how: str
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/servers", method="GET", status=500, times=1000))
    before = len(asked(emulator, "GET"))
    if how == "account_machines":
        account_machines.stop(up.server_id)
    else:
        assert dev().down().health == "stopped"
    assert running(emulator) == []
    assert not [path for path in asked(emulator, "GET")[before:] if "/servers" in path]
    assert not state_of(settings).is_there


def test_a_stop_returns_soon_whatever_retry_after_says(emulator: Emulator, dev: Make) -> None:
    dev().up()
    fault = {"status": 429, "headers": {"Retry-After": "60"}}
    emulator.faults.add(HttpFault(path="/servers/", method="DELETE", **fault))  # type: ignore[arg-type]
    clock = HastyClock()
    begun = clock.monotonic()
    dev(clock).down()
    assert clock.monotonic() - begun < 8
    assert running(emulator) == []


def test_a_state_file_that_cannot_be_written_keeps_no_machine_running(
    emulator: Emulator,
    dev: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
    tmp_path: Path,
) -> None:
    up = dev().up()

    def full(self: StateFile, state: DevState) -> None:
        raise LedgerError("cannot write dev.json: No space left on device")

    monkeypatch.setattr(StateFile, "write", full)
    assert dev().status().health == "healthy"
    assert dev().down().health != "healthy"
    assert running(emulator) == []
    assert "No space left" in caplog.text
    with pytest.raises(LedgerError):  # and no machine is launched that would not be recorded
        dev(state_file=tmp_path / str(up.server_id)).up()
    assert running(emulator) == []


# --- only the platform's answer counts ------------------------------------------------------------


def test_a_page_of_a_gateway_does_not_forget_the_machine(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    up = dev().up()
    page = {"status": 404, "body": "<html>nginx</html>"}
    path = f"/servers/{up.server_id}$"
    emulator.faults.add(HttpFault(path=path, method="GET", **page))  # type: ignore[arg-type]
    assert dev().status().health == "healthy"
    emulator.faults.add(
        HttpFault(path=path, method="GET", **page),  # type: ignore[arg-type]
        HttpFault(path="/servers$", method="GET", status=502, times=20),
    )
    assert dev().status().health == "unknown"
    assert state_of(settings).server_id == up.server_id


def test_an_unreachable_platform_does_not_forget_the_machine(dev: Make, settings: Settings) -> None:
    up = dev().up()
    file = StateFile(settings.state_file)
    lost = {"api_base_url": "http://127.0.0.1:1", "is_emulated": False}
    file.write(attrs.evolve(file.read(), **lost))  # type: ignore[arg-type]
    with pytest.raises(MachineLeak):
        dev(api_base_url="http://127.0.0.1:1").down(force=True)
    assert state_of(settings).server_id == up.server_id


def test_an_end_seconds_after_the_launch_is_believed(
    emulator: Emulator, dev: Make, api: ServerApi
) -> None:
    api.stop_server(dev().up().server_id)
    clock = HastyClock()
    begun = clock.monotonic()
    second = dev(clock).up()
    assert clock.monotonic() - begun < 30
    assert running(emulator) == [second.server_id]


# --- the state file during a start ----------------------------------------------------------------


def test_a_state_file_deleted_during_the_start_is_written_again(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    def delete(progress: Progress) -> None:
        if progress.message.startswith("starting"):
            settings.state_file.unlink(missing_ok=True)

    up = dev(report=delete).up()
    assert up.health == "healthy"
    assert state_of(settings).server_id == up.server_id
    assert state_of(settings).user_id == settings.user_id
    assert dev().up().server_id == up.server_id


def test_a_state_file_that_names_another_machine_stops_the_start(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    def replace(progress: Progress) -> None:
        if progress.message.startswith("starting"):
            file = StateFile(settings.state_file)
            file.write(attrs.evolve(file.read(), server_id="another"))

    with pytest.raises(MachineError, match="now names machine another"):
        dev(report=replace).up()
    assert running(emulator) == []


def test_a_launch_without_a_list_before_it_is_still_looked_for(
    emulator: Emulator, dev: Make, settings: Settings, api: ServerApi
) -> None:
    intent = DevState(
        status="Launching",
        launch_time=time.time() - 120.0,
        user_id=settings.user_id,
        api_base_url=settings.api_base_url,
        server_type="medium",
        launched_for=1234,
        known_servers=None,
    )
    StateFile(settings.state_file).write(intent)
    server = api.launch(emulator.workflow_version_id, "medium", 1234)
    with pytest.raises(MachineLeak, match=server.server_id):
        dev().down()
    api.stop_server(server.server_id)
    assert dev().down().health == "stopped"


@pytest.mark.parametrize(
    "text",
    [
        '{"launch_time": 1e400}',
        '{"launch_time": -5}',
        '{"idle_timeout": 1e300}',
        "[" * 100_000,
    ],
)
def test_invalid_numbers_in_the_state_file_are_errors(
    dev: Make, settings: Settings, text: str
) -> None:
    settings.state_file.parent.mkdir()
    settings.state_file.write_text(text)
    with pytest.raises(ComfyloomError):
        dev().status()


def test_times_in_milliseconds_are_understood(settings: Settings) -> None:
    settings.state_file.parent.mkdir()
    settings.state_file.write_text('{"launch_time": 1795000000500}')
    assert state_of(settings).launch_time == 1795000000.5
