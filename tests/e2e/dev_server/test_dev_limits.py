"""Leases, limits and costs of the dev server when the platform or the user misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, RunComfySession
from comfyloom._machines.account_machines import AccountMachines
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from comfyloom.errors import (
    ConfigError,
    MachineError,
    MachineLeak,
    MachineLimit,
    MachineStartFailed,
)
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from dev_lab import duration_of, state_of
from support import HastyClock, running

Make = Callable[..., Any]


# --- leases ---------------------------------------------------------------------------------------


def test_a_session_never_shortens_a_lease_that_was_extended(
    dev: Make,
    settings: Settings,
    api: ServerApi,
    account_machines: AccountMachines,
    workflow: FluxMeshWorkflow,
) -> None:
    up = dev().up()
    with RunComfySession(settings=settings, clock=HastyClock(), start=True) as session:
        account_machines.extend(up.server_id, 10_000)
        session.run(workflow)
    assert duration_of(settings, up.server_id) == pytest.approx(11_800, abs=3)


def test_a_duration_that_has_passed_is_refused(
    dev: Make, settings: Settings, emulator: Emulator, workflow: FluxMeshWorkflow
) -> None:
    up = dev().up()
    with RunComfySession(settings=settings, clock=HastyClock(), start=True) as session:
        session.run(workflow)  # 200 s of the emulator's time
    with pytest.raises(MachineError, match=r"has been running for .*: comfyloom dev down"):
        dev().up(duration_s=100)
    assert running(emulator) == [up.server_id]


def test_a_state_file_without_times_uses_those_of_the_settings(
    dev: Make, settings: Settings, api: ServerApi, workflow: FluxMeshWorkflow
) -> None:
    up = dev().up(idle_timeout_s=300)
    known = json.loads(settings.state_file.read_text())
    names = ("server_id", "base_url", "status", "launch_time", "workflow_version", "total_cost")
    kept = {name: known[name] for name in (*names, "session_cost", "user_id")}
    settings.state_file.write_text(json.dumps(kept | {"server_type": "medium"}))
    with RunComfySession(settings=settings, clock=HastyClock(), start=True) as session:
        assert session.machine is not None
        assert session.machine.is_borrowed
        session.run(workflow)
    assert duration_of(settings, up.server_id) >= 1800
    assert dev().up(idle_timeout_s=1800).server_id == up.server_id


def test_the_wanted_lease_is_set_after_a_kill(
    dev: Make, settings: Settings, api: ServerApi
) -> None:
    up = dev().up(idle_timeout_s=3000)
    file = StateFile(settings.state_file)
    state = file.read()
    api.set_duration(up.server_id, state.launched_for)
    emulated = attrs.evolve(state, status="Starting", health_status="launching", ready_time=0.0)
    file.write(emulated)
    assert dev().up().server_id == up.server_id
    assert duration_of(settings, up.server_id) == pytest.approx(3000, abs=3)


# --- limits ---------------------------------------------------------------------------------------


def test_concurrent_launches_keep_to_the_limit(emulator: Emulator, settings: Settings) -> None:
    limited = attrs.evolve(settings, max_machines=1)
    done: list[str] = []

    def launch() -> None:
        try:
            with RunComfySession(settings=limited, clock=HastyClock(), start=True):
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
    emulator: Emulator, settings: Settings, dev: Make, account_machines: AccountMachines
) -> None:
    emulator.faults.add(MachineFault(action="lingers", seconds=1e6))
    first = dev().up()
    dev().down()
    assert account_machines.list() == []
    second = dev(max_machines=1).up()
    assert second.server_id != first.server_id
    assert running(emulator) == [second.server_id]


def test_a_listed_machine_that_cannot_be_stopped_is_not_forgotten(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    foreign = emulator.launch_foreign("medium", 3600)
    emulator.faults.add(HttpFault(action="lose_answer", path="/servers$", method="POST"))
    emulator.faults.add(MachineFault(action="young", seconds=1e6))
    with pytest.raises(MachineLeak) as caught:
        dev().up()
    (ours,) = [each for each in running(emulator) if each != foreign]
    assert caught.value.server_id == state_of(settings).server_id == ours


@pytest.mark.parametrize("name", ["", "a", "abc"])
def test_an_id_prefix_that_is_too_short_is_refused(
    emulator: Emulator, api: ServerApi, account_machines: AccountMachines, name: str
) -> None:
    api.launch(emulator.workflow_version_id, "medium", 3600)
    for act in (
        account_machines.stop,
        account_machines.show,
        lambda found: account_machines.extend(found, 60),
    ):
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
def test_invalid_launch_options_launch_nothing(
    emulator: Emulator, dev: Make, wanted: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        dev().up(**wanted)
    assert emulator.state()["machines"] == []


# --- costs ----------------------------------------------------------------------------------------


def test_billed_time_without_an_answer_is_not_free(
    emulator: Emulator, dev: Make, settings: Settings
) -> None:
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=100_000))
    with pytest.raises(MachineStartFailed, match="has not answered for 180 s"):
        dev(prices={"medium": Decimal(3600)}).up()
    state = state_of(settings)
    assert not state.is_there
    (machine,) = emulator.state()["machines"]
    assert state.session_cost is not None
    assert float(state.session_cost) >= machine["billed_seconds"] - 2


def test_billed_time_that_was_not_observed_is_unknown(
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
