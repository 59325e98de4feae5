"""The end of a session: its machine is stopped, its runs are cancelled, its files are deleted."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests

from comfyloom import RunComfySession
from comfyloom._core.timeouts import Timeouts
from comfyloom.emulator import Emulator, HttpFault, MachineFault, SocketFault
from comfyloom.errors import (
    ComfyloomError,
    MachineLeak,
    MachineStartFailed,
    RunCancelled,
)
from comfyloom_workflows import FluxMeshWorkflow
from guard_lab import soon
from shells import bare_environment
from support import assert_nothing_runs, machines, prompts, request_count

Make = Callable[..., RunComfySession]


def forget(held: list[Any]) -> list[str]:
    """Drop the held objects and return the warnings that this gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held.clear()
        gc.collect()
    return [str(warning.message) for warning in caught]


# --- the machine is stopped -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_machine_is_stopped_whatever_happens_in_the_block(
    emulator: Emulator, session_on: Make, kind: type[BaseException]
) -> None:
    with pytest.raises(kind), session_on(start=True):
        raise kind
    assert_nothing_runs(emulator)
    assert len(machines(emulator)) == 1


def test_a_machine_that_ends_while_starting_is_a_failed_start(
    emulator: Emulator, session_on: Make
) -> None:
    emulator.faults.add(MachineFault(action="error", times=2))
    with pytest.raises(MachineStartFailed), session_on(start=True):
        pytest.fail("the block was entered")
    assert_nothing_runs(emulator)


def test_a_young_machine_may_not_be_found_yet(emulator: Emulator, session_on: Make) -> None:
    emulator.faults.add(MachineFault(action="not_found", calls=3))
    with session_on(start=True):
        pass
    assert len(machines(emulator)) == 1
    assert_nothing_runs(emulator)


def test_a_launch_whose_answer_is_lost_is_not_repeated(
    emulator: Emulator, session_on: Make
) -> None:
    emulator.faults.add(HttpFault(action="lose_answer", method="POST", path="/servers$"))
    with session_on(start=True):
        pass
    assert len(machines(emulator)) == 1
    assert request_count(emulator, "/servers", "POST") == 1
    assert_nothing_runs(emulator)


def test_a_stop_that_fails_at_first_is_repeated(emulator: Emulator, session_on: Make) -> None:
    with session_on(start=True):
        emulator.faults.add(HttpFault(action="drop", method="DELETE", path="/servers/", times=2))
    assert_nothing_runs(emulator)


def test_a_stop_that_keeps_failing_is_a_machine_leak(emulator: Emulator, session_on: Make) -> None:
    session = session_on(start=True)
    with pytest.raises(MachineLeak) as caught, session:
        emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=500, times=10_000))
    assert session.machine is not None
    assert session.machine.server_id in str(caught.value)


def test_closing_while_another_thread_launches_stops_the_machine(slow: Emulator) -> None:
    slow.faults.add(HttpFault(action="delay", method="POST", path="/servers$", seconds=1.0))
    session = RunComfySession(slow)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            session.start()
        except ComfyloomError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert soon(lambda: not slow.faults.pending())  # the launch has arrived, and is delayed
    session.close()
    thread.join(30)
    assert caught
    assert len(machines(slow)) == 1
    assert_nothing_runs(slow)


def test_a_session_that_is_closed_before_its_launch_launches_nothing(emulator: Emulator) -> None:
    """Between the first use and the launch lie requests to the platform."""
    session = RunComfySession(emulator)

    def close(*_: Any, **__: Any) -> None:
        session.close()

    early = mock.patch("comfyloom._backends.runcomfy.RunComfyBackend._reap", close)
    with early, pytest.raises(ComfyloomError, match="this session is closed"):
        session.start()
    assert machines(emulator) == []


def test_the_cost_of_a_machine_that_ended_unseen_counts_too(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    with session_on(start=True) as session:
        assert session.machine is not None
        requests.delete(
            f"{emulator.base_url}/prod/api/users/{emulator.user_id}/servers/"
            f"{session.machine.server_id}",
            headers={"Authorization": f"Bearer {emulator.token}"},
            timeout=10,
        )
        assert session.run(workflow).image.size  # on another machine
    assert len(machines(emulator)) == 2
    assert_nothing_runs(emulator)
    billed = sum(machine["billed_seconds"] for machine in machines(emulator))
    assert session.cost is not None
    # Both machines count; this clock shortens the time until the first was found dead.
    assert float(session.cost) >= billed * 0.99 / 3600 - 0.0005


def test_a_lease_is_renewed_without_a_socket(render: Path) -> None:
    """A run of an hour whose sampler sends no events outlives a lease of half an hour."""
    from comfyloom._machines import launch

    with Emulator(time="real", startup_s=0.0, run_s=0.0, node_seconds={"XlabsSampler": 9}) as real:
        real.faults.add(SocketFault(action="refuse", times=1000))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "SHORTEST_LEASE_S", 5)
            patch.setattr(launch, "LONGEST_LEASE_S", 5)
            with RunComfySession(real, timeouts=Timeouts(lease_retry_s=0.2)) as session:
                job = FluxMeshWorkflow(input_image=render, prompt="x", width=64, height=64)
                assert session.run(job).image.size
        assert request_count(real, "update-estimated-duration") >= 2


# --- the session is closed ------------------------------------------------------------------------


def test_a_run_in_progress_is_cancelled_at_the_end(slow: Emulator, long: FluxMeshWorkflow) -> None:
    with RunComfySession(slow) as session:
        run = session.submit(long)
        next(progress for progress in run.events() if progress.kind == "step")
    assert run.status == "cancelled"
    with pytest.raises(RunCancelled):
        run.wait()
    assert prompts(slow)[0]["status"] == "interrupted"
    assert_nothing_runs(slow)


def test_a_closed_session_runs_nothing(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    session = session_on()
    with session:
        pass
    session.close()
    with pytest.raises(ComfyloomError, match="closed"):
        session.run(workflow)


def test_a_forgotten_session_warns_and_is_closed(emulator: Emulator, session_on: Make) -> None:
    session = session_on()
    session.start()
    held = [session]
    del session
    assert any("was not closed" in warning for warning in forget(held))
    assert len(machines(emulator)) == 1
    assert_nothing_runs(emulator)


def test_a_run_keeps_its_session_alive(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    run = session_on().submit(workflow)
    gc.collect()
    assert run.wait().image.size
    held = [run]
    del run
    assert any("was not closed" in warning for warning in forget(held))


def test_result_files_are_deleted_with_the_last_reference(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    gc.disable()
    try:
        with session_on() as session:
            result = session.run(workflow)
            folder = result.image.path.parent
            assert folder.is_dir()
            del result
            assert not folder.exists()
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_ends_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    """Neither results, nor a run under way, nor the report of the cost."""
    code = """
import os, sys
from comfyloom import RunComfySession
from comfyloom_workflows import FluxImageWorkflow

costs = []
show = lambda progress: costs.append(progress) if progress.kind == "cost" else None
with RunComfySession(on_progress=show) as session:
    first = session.run(FluxImageWorkflow(prompt="x", width=64, height=64))
    run = session.submit(FluxImageWorkflow(prompt="y", width=64, height=64))
    child = os.fork()
    if not child:
        sys.exit()  # leaves the block
    os.waitpid(child, 0)
    second = run.wait()
    print(first.image.path.exists(), second.image.path.exists())
print(len(costs))
"""
    with Emulator(time="real", startup_s=0.0, run_s=3.0, rate_limit=None) as emulator:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=bare_environment(tmp_path) | emulator.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout.split() == ["True", "True", "1"], done.stderr
        assert_nothing_runs(emulator)
