"""Dev servers that end, fail to start or cannot be reached, and damaged state files."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from account_lab import silence
from comfyloom import DevServer, Timeouts
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from comfyloom.errors import (
    LedgerError,
    MachineError,
    MachineStartFailed,
    MachineTimeout,
)
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from dev_lab import state_of, stop_machine
from support import machines, running

Make = Callable[..., Any]


# --- a dev server that ended ----------------------------------------------------------------------


def test_an_end_is_noticed_before_use(
    dev: Make,
    session: Make,
    emulator: Emulator,
    settings: Settings,
    workflow: FluxMeshWorkflow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = dev().up()
    stop_machine(settings, status.server_id)
    with caplog.at_level(logging.WARNING, "comfyloom"), session() as used:
        assert not used.machine.is_borrowed
        used.run(workflow)
    assert f"the dev server {status.server_id} has ended" in caplog.text
    assert running(emulator) == []
    assert not state_of(settings).is_there


def test_an_end_is_an_error_when_launching_is_not_allowed(
    dev: Make, session: Make, settings: Settings
) -> None:
    stop_machine(settings, dev().up().server_id)
    with pytest.raises(MachineError, match="has ended"), session(launch=False):
        pass
    assert dev().status().health == "stopped"


def test_up_after_an_end_starts_another(dev: Make, settings: Settings, emulator: Emulator) -> None:
    first = dev().up()
    stop_machine(settings, first.server_id)
    second = dev().up()
    assert second.server_id != first.server_id
    assert running(emulator) == [second.server_id]


# --- a server or platform that does not answer ----------------------------------------------------


def test_a_failed_probe_does_not_forget_it(
    dev: Make, session: Make, emulator: Emulator, settings: Settings
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=1000))
    status = dev().status()
    assert status.health == "unreachable"
    assert status.server_id == up.server_id
    assert status.session_cost is not None
    assert "502" in status.reason
    with pytest.raises(MachineError, match="left unchanged") as caught:
        dev().up()
    assert caught.value.server_id == up.server_id
    assert "0.99 USD an hour" in str(caught.value)
    with pytest.raises(MachineError, match="unreachable"), session(launch=False):
        pass
    assert state_of(settings).server_id == up.server_id
    assert running(emulator) == [up.server_id]
    assert dev().down().health == "stopped"
    assert running(emulator) == []


def test_one_that_answers_late_is_found_out_by_short_probes(slow: Emulator, tmp_path: Path) -> None:
    given = Settings.of_environment(slow.environment())
    settings = attrs.evolve(given, state_file=tmp_path / "dev-server.json")
    up = DevServer(settings).up()
    silence(slow, up.server_id, action="delay", seconds=3.0)
    assert DevServer(settings, timeouts=Timeouts(probe_s=0.2)).status().health == "unreachable"


def test_a_failed_probe_is_repeated(dev: Make, emulator: Emulator) -> None:
    dev().up()
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=2))
    assert dev().status().health == "healthy"


def test_rate_limited_requests_are_repeated(dev: Make, emulator: Emulator) -> None:
    up = dev().up()
    for action in (dev().status, dev().up):
        emulator.faults.add(HttpFault(path="/servers/", method="GET", status=429, times=3))
        found = action()
        assert (found.health, found.server_id) == ("healthy", up.server_id)


def test_a_failing_platform_does_not_forget_it(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/servers/", method="GET", status=500, times=1000))
    status = dev().status()
    assert (status.health, status.server_id) == ("unknown", up.server_id)
    assert state_of(settings).server_id == up.server_id


def test_down_keeps_a_machine_whose_stop_is_not_confirmed(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/servers/", method="DELETE", status=500, times=1000))
    with pytest.raises(MachineError, match="may still be running"):
        dev().down()
    assert state_of(settings).server_id == up.server_id
    emulator.faults.clear()
    assert dev().down().health == "stopped"


# --- starts that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"), [("error", MachineStartFailed), ("never_ready", MachineTimeout)]
)
def test_a_failed_start_leaves_nothing(
    dev: Make, emulator: Emulator, settings: Settings, fault: Any, error: type[Exception]
) -> None:
    emulator.faults.add(MachineFault(action=fault))
    with pytest.raises(error) as caught:
        dev().up()
    assert caught.value.elapsed_s > 0  # type: ignore[attr-defined]
    assert running(emulator) == []
    assert not state_of(settings).is_there
    assert dev().up().health == "healthy"


def test_a_machine_whose_launch_answer_was_lost_is_found(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    emulator.faults.add(HttpFault(action="lose_answer", path="/servers$", method="POST"))
    up = dev().up()
    assert running(emulator) == [up.server_id]


def test_a_refused_launch_is_not_remembered(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    with pytest.raises(Exception, match="server_type"):
        dev().up(server_type="gigantic")
    assert not state_of(settings).is_there


def test_the_machine_of_an_interrupted_launch_is_stopped_by_the_next_up(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    """As after `kill -9` between the request and its answer."""
    up = dev().up()
    file = StateFile(settings.state_file)
    state = file.read()
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    api.set_duration(up.server_id, state.launched_for)
    api.close()
    file.write(attrs.evolve(state, server_id="", base_url="", status="Launching", ready_time=0.0))
    assert dev().status().health == "launching"
    second = dev().up()
    assert second.server_id != up.server_id
    assert running(emulator) == [second.server_id]


def test_an_interrupted_launch_without_a_machine_is_closed(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    intent = DevState(
        status="Launching",
        launch_time=1.0,
        user_id=settings.user_id,
        api_base_url=settings.api_base_url,
        server_type="medium",
        launched_for=1234,
        known_servers=(),
    )
    StateFile(settings.state_file).write(intent)
    assert dev().down().health == "stopped"
    assert machines(emulator) == []


# --- the state file -------------------------------------------------------------------------------


def test_the_state_file_is_private_and_has_the_usual_fields(dev: Make, settings: Settings) -> None:
    status = dev().up()
    file = settings.state_file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (file.parent / ".gitignore").read_text() == "*\n"
    raw = json.loads(file.read_text())
    assert raw["server_id"] == status.server_id
    assert raw["base_url"].startswith("http://127.0.0.1")
    for name in (
        *("status", "launch_time", "workflow_version", "total_cost", "session_cost", "user_id"),
        *("server_type", "last_health_check", "health_status"),
    ):
        assert raw[name] is not None, name
    assert not list(file.parent.glob(".dev-server.json.*"))
    assert raw["base_url"] not in repr(state_of(settings))
    dev().down()
    raw = json.loads(file.read_text())
    assert (raw["server_id"], raw["base_url"], raw["status"]) == (None, None, "Stopped")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"total_cost": "x"}', '{"server_id": 3}', '{"earlier_cost": NaN}']
)
def test_a_broken_state_file_is_reported_and_left_alone(
    dev: Make, session: Make, settings: Settings, emulator: Emulator, text: str
) -> None:
    settings.state_file.parent.mkdir()
    settings.state_file.write_text(text)
    for action in (dev().up, dev().status, dev().down):
        with pytest.raises(LedgerError, match="comfyloom machines list") as caught:
            action()
        assert caught.value.path == str(settings.state_file)
    assert settings.state_file.read_text() == text
    with session() as used:
        assert not used.machine.is_borrowed
    assert running(emulator) == []


def test_a_state_file_of_another_launcher_is_understood(
    dev: Make, settings: Settings, emulator: Emulator
) -> None:
    up = dev().up()
    base_url = state_of(settings).base_url
    settings.state_file.write_text(
        json.dumps(
            {
                "server_id": up.server_id,
                "base_url": base_url,
                "status": "Ready",
                "launch_time": 1795000000.5,
                "workflow_version": settings.workflow_version_id,
                "total_cost": 1.25,
                "session_cost": 0.5,
                "user_id": settings.user_id,
                "server_type": "medium",
                "colour": "red",
            }
        )
    )
    status = dev().status()
    assert status.health == "healthy"
    assert dev().down().health == "stopped"
