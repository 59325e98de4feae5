"""What a hostile platform, disk or user does to the dev server and the machines of an account."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, RunComfySession
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
    ConfigError,
    LedgerError,
    MachineError,
    MachineLeak,
    MachineLimit,
    MachineTimeout,
)
from comfyloom.progress import Progress
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from support import HastyClock, running

Make = Callable[..., Any]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(rate_limit=None) as running:
        yield running


@pytest.fixture
def fleet(api: ServerApi, settings: Settings) -> AccountMachines:
    return AccountMachines(api, settings)


def asked(emulator: Emulator, method: str) -> list[str]:
    requests = emulator.state()["requests"]
    return [each["path"] for each in requests if each["method"] == method]


def remembered(settings: Settings) -> DevState:
    return StateFile(settings.state_file).read()


# --- stopping asks nothing first -----------------------------------------------------------------


def test_a_machine_that_the_platform_does_not_know_yet_is_stopped(
    emulator: Emulator, settings: Settings, fleet: AccountMachines, api: ServerApi
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

    def appears() -> None:  # time goes by in the emulator, as somebody else waits there
        for _ in range(3):
            emulator.faults.add(HttpFault(action="delay", path="/workflows$", seconds=8.0))
            api.list_workflows()

    late = threading.Timer(0.01, appears)
    late.start()
    fleet.stop(server.server_id)
    late.join()
    assert running(emulator) == []


@pytest.mark.parametrize("how", ["fleet", "down"])
def test_a_stop_does_not_ask_before(
    emulator: Emulator, dev: Make, fleet: AccountMachines, settings: Settings, how: str
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(path="/servers", method="GET", status=500, times=1000))
    before = len(asked(emulator, "GET"))
    if how == "fleet":
        fleet.stop(up.server_id)
    else:
        assert dev().down().health == "stopped"
    assert running(emulator) == []
    assert not [path for path in asked(emulator, "GET")[before:] if "/servers" in path]
    assert not remembered(settings).is_there


def test_a_stop_comes_back_soon_whatever_the_platform_asks_for(
    emulator: Emulator, dev: Make
) -> None:
    dev().up()
    fault = {"status": 429, "headers": {"Retry-After": "60"}}
    emulator.faults.add(HttpFault(path="/servers/", method="DELETE", **fault))  # type: ignore[arg-type]
    clock = HastyClock()
    begun = clock.monotonic()
    dev(clock).down()
    assert clock.monotonic() - begun < 8
    assert running(emulator) == []


def test_a_file_that_cannot_be_written_keeps_no_machine_running(
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
    with pytest.raises(LedgerError):  # and none is launched that nobody would remember
        dev(state_file=tmp_path / str(up.server_id)).up()
    assert running(emulator) == []


# --- only the platform's word --------------------------------------------------------------------


def test_one_page_of_a_gateway_does_not_forget_it(
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
    assert remembered(settings).server_id == up.server_id


def test_a_tunnel_that_is_down_does_not_forget_it(dev: Make, settings: Settings) -> None:
    up = dev().up()
    file = StateFile(settings.state_file)
    lost = {"api_base_url": "http://127.0.0.1:1", "is_emulated": False}
    file.write(attrs.evolve(file.read(), **lost))  # type: ignore[arg-type]
    with pytest.raises(MachineLeak):
        dev(api_base_url="http://127.0.0.1:1").down(force=True)
    assert remembered(settings).server_id == up.server_id


def test_an_end_seconds_after_the_launch_is_believed(
    emulator: Emulator, dev: Make, api: ServerApi
) -> None:
    api.stop_server(dev().up().server_id)
    clock = HastyClock()
    begun = clock.monotonic()
    second = dev(clock).up()
    assert clock.monotonic() - begun < 30
    assert running(emulator) == [second.server_id]


# --- the file while it is started ----------------------------------------------------------------


def test_a_file_that_is_deleted_meanwhile_is_written_again(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    def delete(progress: Progress) -> None:
        if progress.message.startswith("starting"):
            settings.state_file.unlink(missing_ok=True)

    up = dev(report=delete).up()
    assert up.health == "healthy"
    assert remembered(settings).server_id == up.server_id
    assert remembered(settings).user_id == settings.user_id
    assert dev().up().server_id == up.server_id


def test_a_file_about_another_machine_by_now(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    def replace(progress: Progress) -> None:
        if progress.message.startswith("starting"):
            file = StateFile(settings.state_file)
            file.write(attrs.evolve(file.read(), server_id="another"))

    with pytest.raises(MachineError, match="now names machine another"):
        dev(report=replace).up()
    assert running(emulator) == []


def test_a_launch_whose_list_failed_is_looked_for_all_the_same(
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


# --- leases --------------------------------------------------------------------------------------


def duration(api: ServerApi, server_id: str) -> float:
    found = api.get_server(server_id).estimated_duration
    assert found is not None
    return found


def test_a_session_never_cuts_what_somebody_extended(
    dev: Make,
    settings: Settings,
    api: ServerApi,
    fleet: AccountMachines,
    workflow: FluxMeshWorkflow,
) -> None:
    up = dev().up()
    with RunComfySession(settings=settings, clock=HastyClock()) as session:
        fleet.extend(up.server_id, 10_000)
        session.run(workflow)
    assert duration(api, up.server_id) == pytest.approx(11_800, abs=3)


def test_a_time_that_has_passed_is_refused(
    dev: Make, settings: Settings, emulator: Emulator, workflow: FluxMeshWorkflow
) -> None:
    up = dev().up()
    with RunComfySession(settings=settings, clock=HastyClock()) as session:
        session.run(workflow)  # 200 s of the emulator's time
    with pytest.raises(MachineError, match=r"has been running for .*: comfyloom dev down"):
        dev().up(duration_s=100)
    assert running(emulator) == [up.server_id]


def test_a_file_that_tells_no_times_has_those_of_the_settings(
    dev: Make, settings: Settings, api: ServerApi, workflow: FluxMeshWorkflow
) -> None:
    up = dev().up(idle_timeout_s=300)
    known = json.loads(settings.state_file.read_text())
    names = ("server_id", "base_url", "status", "launch_time", "workflow_version", "total_cost")
    kept = {name: known[name] for name in (*names, "session_cost", "user_id")}
    settings.state_file.write_text(json.dumps(kept | {"server_type": "medium"}))
    with RunComfySession(settings=settings, clock=HastyClock()) as session:
        assert session.machine is not None
        assert session.machine.is_borrowed
        session.run(workflow)
    assert duration(api, up.server_id) >= 1800
    assert dev().up(idle_timeout_s=1800).server_id == up.server_id


def test_after_a_kill_the_wanted_lease_is_set(
    dev: Make, settings: Settings, api: ServerApi
) -> None:
    up = dev().up(idle_timeout_s=3000)
    file = StateFile(settings.state_file)
    state = file.read()
    api.set_duration(up.server_id, state.launched_for)
    emulated = attrs.evolve(state, status="Starting", health_status="launching", ready_time=0.0)
    file.write(emulated)
    assert dev().up().server_id == up.server_id
    assert duration(api, up.server_id) == pytest.approx(3000, abs=3)


# --- limits --------------------------------------------------------------------------------------


def test_launches_at_once_keep_to_the_limit(emulator: Emulator, settings: Settings) -> None:
    limited = attrs.evolve(settings, max_machines=1)
    done: list[str] = []

    def launch() -> None:
        try:
            with RunComfySession(settings=limited, clock=HastyClock()):
                done.append("launched")
                barrier.wait(20)
        except MachineLimit:
            done.append("refused")
            barrier.wait(20)

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=launch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == ["launched", "refused", "refused"]
    assert len(emulator.state()["machines"]) == 1


def test_a_machine_that_is_about_to_end_does_not_count(
    emulator: Emulator, settings: Settings, dev: Make, fleet: AccountMachines
) -> None:
    emulator.faults.add(MachineFault(action="lingers", seconds=1e6))
    first = dev().up()
    dev().down()
    assert fleet.list() == []
    second = dev(max_machines=1).up()
    assert second.server_id != first.server_id
    assert running(emulator) == [second.server_id]


def test_a_machine_that_is_listed_and_cannot_be_stopped_is_not_forgotten(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    foreign = emulator.launch_foreign("medium", 3600)
    emulator.faults.add(HttpFault(action="lose_answer", path="/servers$", method="POST"))
    emulator.faults.add(MachineFault(action="young", seconds=1e6))
    with pytest.raises(MachineLeak) as caught:
        dev().up()
    (ours,) = [each for each in running(emulator) if each != foreign]
    assert caught.value.server_id == remembered(settings).server_id == ours


@pytest.mark.parametrize("name", ["", "a", "abc"])
def test_a_name_that_is_too_short_names_nothing(
    emulator: Emulator, api: ServerApi, fleet: AccountMachines, name: str
) -> None:
    api.launch(emulator.workflow_version_id, "medium", 3600)
    for act in (fleet.stop, fleet.show, lambda found: fleet.extend(found, 60)):
        with pytest.raises(MachineError, match="give at least 4 characters"):
            act(name)
    assert len(running(emulator)) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"server_type": "a b"},
        {"server_type": "x\ny"},
        {"server_type": ""},
        {"idle_timeout_s": 5.0},
        {"duration_s": float("inf")},
        {"duration_s": 1e300},
    ],
)
def test_wishes_that_cannot_be(emulator: Emulator, dev: Make, wanted: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        dev().up(**wanted)
    assert emulator.state()["machines"] == []


# --- costs ---------------------------------------------------------------------------------------


def test_time_that_was_billed_without_an_answer_is_not_free(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=100_000))
    with pytest.raises(MachineTimeout):
        dev(prices={"medium": Decimal(3600)}).up()
    state = remembered(settings)
    assert not state.is_there
    (machine,) = emulator.state()["machines"]
    assert state.session_cost is not None
    assert float(state.session_cost) >= machine["billed_seconds"] - 2


def test_what_was_never_told_is_not_zero(
    emulator: Emulator, dev: Make, settings: Settings, api: ServerApi
) -> None:
    up = dev().up()
    file = StateFile(settings.state_file)
    api.stop_server(up.server_id)
    file.write(attrs.evolve(file.read(), ready_time=0.0, stopping_time=0.0))
    status = dev().status()
    assert status.health == "stopped"
    assert status.session_cost is None


def test_unpriced_time_is_counted_while_it_runs(tmp_path: Path) -> None:
    with Emulator(server_types=["h200"], rate_limit=None) as other:
        given = attrs.evolve(
            Settings.of_environment(other.environment()),
            server_type="h200",
            state_file=tmp_path / "dev.json",
        )
        status = DevServer(given, clock=HastyClock()).up()
        assert status.session_cost is None
        assert status.total_cost is None
        DevServer(given, clock=HastyClock()).down()


@pytest.mark.parametrize(
    "text",
    [
        '{"launch_time": 1e400}',
        '{"launch_time": -5}',
        '{"idle_timeout": 1e300}',
        "[" * 100_000,
    ],
)
def test_odd_numbers_in_the_file(dev: Make, settings: Settings, text: str) -> None:
    settings.state_file.parent.mkdir()
    settings.state_file.write_text(text)
    with pytest.raises(ComfyloomError):
        dev().status()


def test_times_in_milliseconds_are_understood(settings: Settings) -> None:
    settings.state_file.parent.mkdir()
    settings.state_file.write_text('{"launch_time": 1795000000500}')
    assert remembered(settings).launch_time == 1795000000.5
