"""The dev server: started once, used by many sessions, never stopped by a session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, RunComfySession
from comfyloom._records.dev_state_file import StateFile
from comfyloom.emulator import Emulator
from comfyloom.errors import (
    MachineBusy,
    MachineError,
    MachineLimit,
)
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from dev_lab import duration_of, state_of
from support import HastyClock, machines, running

Make = Callable[..., Any]


@pytest.fixture
def slow() -> Iterator[Emulator]:
    """In real time; the FLUX sampler takes 4 s, other nodes take no time."""
    times = {"XlabsSampler": 4.0}
    options: dict[str, Any] = {"startup_s": 0.0, "run_s": 0.0, "rate_limit": None}
    with Emulator(time="real", node_seconds=times, **options) as running:
        yield running


# --- a day with it --------------------------------------------------------------------------------


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
    assert abs(ended.session_cost - paid) < Decimal("0.0006")  # 2 s: the clock has whole seconds


def test_costs_of_several_machines_are_summed(emulator: Emulator, dev: Make, session: Make) -> None:
    totals: list[Decimal] = []
    for _ in range(2):
        dev().up()
        end = dev().down()
        totals.append(end.total_cost)
    assert totals[1] >= totals[0]
    assert len(machines(emulator)) == 2


def test_a_second_up_gives_the_same_machine(emulator: Emulator, dev: Make) -> None:
    assert dev().up().server_id == dev().up().server_id
    assert len(machines(emulator)) == 1


def test_two_concurrent_ups_start_one_machine(dev: Make) -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(dev().up().server_id)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_restart_gives_another_machine_of_the_same_type(emulator: Emulator, dev: Make) -> None:
    first = dev().up(server_type="large", idle_timeout_s=700, duration_s=7000)
    second = dev().restart()
    assert second.server_id != first.server_id
    assert (second.server_type, second.workflow_version) == ("large", first.workflow_version)
    assert running(emulator) == [second.server_id]
    assert dev().restart(server_type="medium").server_type == "medium"


def test_the_workflow_determines_the_version(emulator: Emulator, dev: Make) -> None:
    server = dev(workflow_version_id=None)
    status = server.up(FluxMeshWorkflow)
    assert status.workflow_version == emulator.workflow_version_id
    assert server.restart().workflow_version == emulator.workflow_version_id


def test_status_and_down_report_that_there_is_no_dev_server(dev: Make, emulator: Emulator) -> None:
    assert dev().status().health == "stopped"
    assert dev().down().health == "stopped"
    assert machines(emulator) == []
    assert emulator.state()["requests"] == []


# --- its lease ------------------------------------------------------------------------------------


def test_its_lease_is_its_idle_timeout(dev: Make, settings: Settings) -> None:
    status = dev().up(idle_timeout_s=600)
    assert duration_of(settings, status.server_id) == pytest.approx(600, abs=3)
    longer = dev().up(idle_timeout_s=1200, duration_s=900)
    assert longer.server_id == status.server_id
    assert duration_of(settings, status.server_id) == pytest.approx(900, abs=3)


def test_use_renews_its_lease_up_to_the_longest_duration(
    dev: Make, session: Make, settings: Settings, workflow: FluxMeshWorkflow
) -> None:
    status = dev().up(idle_timeout_s=1000, duration_s=1500)
    for _ in range(4):  # a run takes 200 s of the emulator's time
        with session() as used:
            used.run(workflow.with_seed(_))
    assert 1000 < duration_of(settings, status.server_id) <= 1500


# --- who may use it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"workflow_version_id": "other"}, {"user_id": "other-user"}, {"server_type": "large"}],
)
def test_a_dev_server_that_does_not_fit_is_not_borrowed(
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


def test_a_session_without_a_type_takes_any_type(dev: Make, session: Make) -> None:
    dev().up(server_type="large")
    with session() as used:
        assert used.machine.server_type == "large"


def test_up_with_another_type_or_version_is_refused(dev: Make, emulator: Emulator) -> None:
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
    state = state_of(settings)
    StateFile(settings.state_file).write(attrs.evolve(state, status="Starting"))
    with session() as used:
        assert used.machine.server_id == status.server_id


def test_a_machine_of_another_account_is_not_touched(
    dev: Make, settings: Settings, emulator: Emulator
) -> None:
    up = dev().up()
    other = dev(user_id="other-user")
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


def test_the_dev_server_counts_towards_max_machines(
    dev: Make, session: Make, emulator: Emulator
) -> None:
    dev().up()
    limited = {"max_machines": 1, "server_type": "large"}
    with pytest.raises(MachineLimit, match="max_machines is 1"), session(changes=limited):
        pass
    assert len(machines(emulator)) == 1


def test_an_unknown_price_is_not_zero(settings: Settings, workflow: FluxMeshWorkflow) -> None:
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
        with RunComfySession(settings=given, clock=HastyClock(), start=True) as used:
            used.run(workflow)  # 200 s of the emulator's time
        end = server.down()
        assert end.session_cost is None
        assert end.total_cost is None
        assert end.unpriced_s > 100


# --- prompts that run -----------------------------------------------------------------------------


def dev_on(emulator: Emulator, folder: Path) -> tuple[Settings, DevServer]:
    given = Settings.of_environment(emulator.environment())
    settings = attrs.evolve(given, state_file=folder / "dev.json")
    return settings, DevServer(settings, clock=HastyClock())


def test_down_and_restart_refuse_while_a_prompt_runs(
    slow: Emulator, long: FluxMeshWorkflow, tmp_path: Path
) -> None:
    settings, server = dev_on(slow, tmp_path)
    up = server.up()
    with RunComfySession(settings=settings, clock=HastyClock(), start=True) as used:
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


def test_watching_reports_the_prompts(
    slow: Emulator, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    settings, server = dev_on(slow, tmp_path)
    up = server.up()
    states: list[str] = []
    with RunComfySession(settings=settings, clock=HastyClock(), start=True) as used:
        run = used.submit(workflow.with_steps(20))
        for watched in server.watch():
            assert watched.status.server_id == up.server_id
            states += [each.state for each in watched.prompts if each.prompt_id == run.id]
            if states and states[-1] == "done":
                break
    assert states[0] in ("running", "waiting")
    server.down()
    assert [watched.status.health for watched in server.watch()] == ["stopped"]
