"""The dev server: started once, used by many, never forgotten, never stopped by a borrower."""

from __future__ import annotations

import json
import logging
import stat
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, RunComfySession
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from comfyloom.errors import (
    LedgerError,
    MachineBusy,
    MachineError,
    MachineLimit,
    MachineStartFailed,
    MachineTimeout,
)
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from support import HastyClock, machines, running

Make = Callable[..., Any]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Without a limit of requests: the clients here do not take the time that they would wait."""
    with Emulator(rate_limit=None) as running:
        yield running


@pytest.fixture
def slow() -> Iterator[Emulator]:
    """In real time; the FLUX sampler takes 4 s and all else no time."""
    times = {"XlabsSampler": 4.0}
    options: dict[str, Any] = {"startup_s": 0.0, "run_s": 0.0, "rate_limit": None}
    with Emulator(time="real", node_seconds=times, **options) as running:
        yield running


@pytest.fixture
def session(settings: Settings) -> Make:
    def make(**options: Any) -> RunComfySession:
        given = attrs.evolve(settings, **options.pop("changes", {}))
        return RunComfySession(settings=given, clock=HastyClock(), **options)

    return make


def end_it(settings: Settings, server_id: str) -> None:
    """Stop a machine behind everybody's back."""
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    api.stop_server(server_id)
    api.close()


def remembered(settings: Settings) -> DevState:
    return StateFile(settings.state_file).read()


# --- a day with it -------------------------------------------------------------------------------


def test_one_machine_for_a_whole_day(
    emulator: Emulator, dev: Make, session: Make, workflow: FluxMeshWorkflow
) -> None:
    status = dev().up()
    assert status.health == "healthy"
    assert status.comfyui_version == "0.3.64"
    for _ in range(3):
        with session() as used:
            assert used.machine.server_id == status.server_id
            assert used.machine.is_borrowed
            assert used.run(workflow).image.size > 1000
            assert used.cost is not None
        assert running(emulator) == [status.server_id]
    assert dev().status().health == "healthy"
    ended = dev().down()
    assert ended.health == "stopped"
    (machine,) = machines(emulator)
    assert machine["stopped_at"]
    paid = Decimal("0.99") * Decimal(machine["billed_seconds"]) / 3600
    assert ended.session_cost is not None
    assert abs(ended.session_cost - paid) < Decimal("0.0006")  # 2 s: the clock tells whole seconds


def test_costs_of_several_are_summed(emulator: Emulator, dev: Make, session: Make) -> None:
    totals: list[Decimal] = []
    for _ in range(2):
        dev().up()
        end = dev().down()
        totals.append(end.total_cost)
    assert totals[1] >= totals[0]
    assert len(machines(emulator)) == 2


def test_the_file_is_private_and_has_the_fields_of_the_field(dev: Make, settings: Settings) -> None:
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
    assert raw["base_url"] not in repr(remembered(settings))
    dev().down()
    raw = json.loads(file.read_text())
    assert (raw["server_id"], raw["base_url"], raw["status"]) == (None, None, "Stopped")


def test_up_again_is_the_same_machine(emulator: Emulator, dev: Make) -> None:
    assert dev().up().server_id == dev().up().server_id
    assert len(machines(emulator)) == 1


def test_two_at_once_start_one_machine(dev: Make) -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(dev().up().server_id)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_restart_is_another_machine_of_the_same_kind(emulator: Emulator, dev: Make) -> None:
    first = dev().up(server_type="large", idle_timeout_s=700, duration_s=7000)
    second = dev().restart()
    assert second.server_id != first.server_id
    assert (second.server_type, second.workflow_version) == ("large", first.workflow_version)
    assert running(emulator) == [second.server_id]
    assert dev().restart(server_type="medium").server_type == "medium"


def test_the_workflow_tells_which_version(emulator: Emulator, dev: Make) -> None:
    server = dev(workflow_version_id=None)
    status = server.up(FluxMeshWorkflow)
    assert status.workflow_version == emulator.workflow_version_id
    assert server.restart().workflow_version == emulator.workflow_version_id


def test_without_one_everything_says_so(dev: Make, emulator: Emulator) -> None:
    assert dev().status().health == "stopped"
    assert dev().down().health == "stopped"
    assert machines(emulator) == []
    assert emulator.state()["requests"] == []


# --- its lease -----------------------------------------------------------------------------------


def lease_of(settings: Settings, server_id: str) -> float:
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    duration = api.get_server(server_id).estimated_duration
    api.close()
    assert duration is not None
    return duration


def test_its_lease_is_its_idle_timeout(dev: Make, settings: Settings) -> None:
    status = dev().up(idle_timeout_s=600)
    assert lease_of(settings, status.server_id) == pytest.approx(600, abs=3)
    longer = dev().up(idle_timeout_s=1200, duration_s=900)
    assert longer.server_id == status.server_id
    assert lease_of(settings, status.server_id) == pytest.approx(900, abs=3)


def test_use_renews_it_up_to_the_longest_duration(
    dev: Make, session: Make, settings: Settings, workflow: FluxMeshWorkflow
) -> None:
    status = dev().up(idle_timeout_s=1000, duration_s=1500)
    for _ in range(4):  # a run takes 200 s of the emulator's time
        with session() as used:
            used.run(workflow.with_seed(_))
    assert 1000 < lease_of(settings, status.server_id) <= 1500


# --- who may use it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"workflow_version_id": "other"}, {"user_id": "somebody"}, {"server_type": "large"}]
)
def test_what_does_not_fit_is_not_borrowed(
    dev: Make, session: Make, emulator: Emulator, changes: dict[str, str]
) -> None:
    dev().up()
    with (
        pytest.raises(MachineError, match="dev server") as caught,
        session(changes=changes, launch=False),
    ):
        pass
    assert ("comfyloom dev restart" in str(caught.value)) is ("user_id" not in changes)
    assert len(machines(emulator)) == 1


def test_a_type_that_nobody_asked_for_does_not_matter(dev: Make, session: Make) -> None:
    dev().up(server_type="large")
    with session() as used:
        assert used.machine.server_type == "large"


def test_another_than_the_one_that_runs_is_refused(dev: Make, emulator: Emulator) -> None:
    dev().up()
    with pytest.raises(MachineError, match="is a medium machine, not large: comfyloom dev restart"):
        dev().up(server_type="large")
    with pytest.raises(MachineError, match="workflow version"):
        dev(workflow_version_id="other").up()
    assert len(machines(emulator)) == 1


def test_a_session_waits_for_a_dev_server_that_starts(
    dev: Make, session: Make, emulator: Emulator, settings: Settings
) -> None:
    status = dev().up()
    state = remembered(settings)
    StateFile(settings.state_file).write(attrs.evolve(state, status="Starting"))
    with session() as used:
        assert used.machine.server_id == status.server_id


# --- when it died --------------------------------------------------------------------------------


def test_an_end_is_noticed_before_use(
    dev: Make,
    session: Make,
    emulator: Emulator,
    settings: Settings,
    workflow: FluxMeshWorkflow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = dev().up()
    end_it(settings, status.server_id)
    with caplog.at_level(logging.WARNING, "comfyloom"), session() as used:
        assert not used.machine.is_borrowed
        used.run(workflow)
    assert f"the dev server {status.server_id} has ended" in caplog.text
    assert running(emulator) == []
    assert not remembered(settings).is_there


def test_an_end_and_no_launch(dev: Make, session: Make, settings: Settings) -> None:
    end_it(settings, dev().up().server_id)
    with pytest.raises(MachineError, match="has ended"), session(launch=False):
        pass
    assert dev().status().health == "stopped"


def test_up_after_an_end_starts_another(dev: Make, settings: Settings, emulator: Emulator) -> None:
    first = dev().up()
    end_it(settings, first.server_id)
    second = dev().up()
    assert second.server_id != first.server_id
    assert running(emulator) == [second.server_id]


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
    assert remembered(settings).server_id == up.server_id
    assert running(emulator) == [up.server_id]
    assert dev().down().health == "stopped"
    assert running(emulator) == []


def test_a_probe_that_fails_once_is_made_again(dev: Make, emulator: Emulator) -> None:
    dev().up()
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=2))
    assert dev().status().health == "healthy"


def test_too_many_requests_are_waited_for(dev: Make, emulator: Emulator) -> None:
    up = dev().up()
    for action in (dev().status, dev().up):
        emulator.faults.add(HttpFault(path="/servers/", method="GET", status=429, times=3))
        found = action()
        assert (found.health, found.server_id) == ("healthy", up.server_id)


def test_a_platform_that_does_not_tell_does_not_forget_it(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/servers/", method="GET", status=500, times=1000))
    status = dev().status()
    assert (status.health, status.server_id) == ("unknown", up.server_id)
    assert remembered(settings).server_id == up.server_id


def test_down_keeps_what_is_not_confirmed(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/servers/", method="DELETE", status=500, times=1000))
    with pytest.raises(MachineError, match="may still be running"):
        dev().down()
    assert remembered(settings).server_id == up.server_id
    emulator.faults.clear()
    assert dev().down().health == "stopped"


# --- starts that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"), [("error", MachineStartFailed), ("never_ready", MachineTimeout)]
)
def test_a_start_that_fails_leaves_nothing(
    dev: Make, emulator: Emulator, settings: Settings, fault: Any, error: type[Exception]
) -> None:
    emulator.faults.add(MachineFault(action=fault))
    with pytest.raises(error) as caught:
        dev().up()
    assert caught.value.elapsed_s > 0  # type: ignore[attr-defined]
    assert running(emulator) == []
    assert not remembered(settings).is_there
    assert dev().up().health == "healthy"


def test_a_lost_launch_answer_is_found(dev: Make, emulator: Emulator, settings: Settings) -> None:
    emulator.faults.add(HttpFault(action="lose_answer", path="/servers$", method="POST"))
    up = dev().up()
    assert running(emulator) == [up.server_id]


def test_a_refused_launch_is_not_remembered(
    dev: Make, emulator: Emulator, settings: Settings
) -> None:
    with pytest.raises(Exception, match="server_type"):
        dev().up(server_type="gigantic")
    assert not remembered(settings).is_there


def test_the_machine_of_an_interrupted_launch_is_stopped_by_the_next(
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


def test_the_limit_of_machines(dev: Make, session: Make, emulator: Emulator) -> None:
    dev().up()
    limited = {"max_machines": 1, "server_type": "large"}
    with pytest.raises(MachineLimit, match="max_machines is 1"), session(changes=limited):
        pass
    assert len(machines(emulator)) == 1


def test_an_unknown_price_is_no_zero(settings: Settings, workflow: FluxMeshWorkflow) -> None:
    with Emulator(server_types=["h200"]) as other:
        given = attrs.evolve(
            Settings.of_environment(other.environment()),
            server_type="h200",
            state_file=settings.state_file,
        )
        server = DevServer(given, clock=HastyClock())
        up = server.up()
        assert up.price is None
        assert up.session_cost is None
        with RunComfySession(settings=given, clock=HastyClock()) as used:
            used.run(workflow)  # 200 s of the emulator's time
        end = server.down()
        assert end.session_cost is None
        assert end.total_cost is None
        assert end.unpriced_s > 100


# --- prompts that run ----------------------------------------------------------------------------


def dev_on(emulator: Emulator, folder: Path) -> tuple[Settings, DevServer]:
    given = Settings.of_environment(emulator.environment())
    settings = attrs.evolve(given, state_file=folder / "dev.json")
    return settings, DevServer(settings, clock=HastyClock())


def test_down_and_restart_refuse_while_a_prompt_runs(
    slow: Emulator, long: FluxMeshWorkflow, tmp_path: Path
) -> None:
    settings, server = dev_on(slow, tmp_path)
    up = server.up()
    with RunComfySession(settings=settings, clock=HastyClock()) as used:
        run = used.submit(long)
        for progress in run.events():
            if progress.kind == "step":
                break
        status = server.status()
        assert status.running == (run.id,)
        for refused in (server.down, server.restart):
            with pytest.raises(MachineBusy, match="1 running, 0 waiting"):
                refused()
        assert running(slow) == [up.server_id]
        assert server.down(force=True).health == "stopped"
        with pytest.raises(MachineError, match="ended"):
            run.wait(20)


def test_watching_tells_what_runs(
    slow: Emulator, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    settings, server = dev_on(slow, tmp_path)
    up = server.up()
    states: list[str] = []
    with RunComfySession(settings=settings, clock=HastyClock()) as used:
        run = used.submit(workflow.with_steps(20))
        for watched in server.watch():
            assert watched.status.server_id == up.server_id
            states += [each.state for each in watched.prompts if each.prompt_id == run.id]
            if states and states[-1] == "done":
                break
    assert states[0] in ("running", "waiting")
    server.down()
    assert [watched.status.health for watched in server.watch()] == ["stopped"]


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", '{"total_cost": "x"}', '{"server_id": 3}'])
def test_a_broken_file_is_told_and_left_alone(
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


def test_a_file_of_another_launcher_is_understood(
    dev: Make, settings: Settings, emulator: Emulator
) -> None:
    up = dev().up()
    base_url = remembered(settings).base_url
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


def test_a_machine_of_another_account_is_not_touched(
    dev: Make, settings: Settings, emulator: Emulator
) -> None:
    up = dev().up()
    other = dev(user_id="somebody")
    for action in (other.up, other.down):
        with pytest.raises(MachineError, match="another account"):
            action()
    assert other.status().health == "unknown"
    assert running(emulator) == [up.server_id]


def test_a_machine_of_an_emulator_that_is_gone_is_forgotten(
    dev: Make, settings: Settings, emulator: Emulator
) -> None:
    with Emulator() as gone:
        given = attrs.evolve(
            Settings.of_environment(gone.environment()), state_file=settings.state_file
        )
        first = DevServer(given, clock=HastyClock()).up()
    second = dev().up()
    assert second.server_id != first.server_id
    assert running(emulator) == [second.server_id]
