"""When a session launches its machine, who waits for it, and what replaces one that fails."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from account_lab import account, launches, silence, statuses
from comfyloom import DevServer, RunComfySession
from comfyloom._records.dev_state_file import StateFile
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from comfyloom.errors import (
    ConfigError,
    InputFileError,
    MachineError,
    MachineStartFailed,
    RunCancelled,
)
from comfyloom.progress import Progress
from comfyloom.settings import Settings
from guard_lab import soon
from small_runs import small_workflow

Make = Callable[..., RunComfySession]


@pytest.fixture
def starting() -> Iterator[Emulator]:
    """Its machines take a minute to start."""
    with Emulator(time="real", startup_s=60.0, run_s=0.1, rate_limit=None) as running:
        yield running


# --- when ----------------------------------------------------------------------------------------


def test_what_is_wrong_here_launches_nothing(emulator: Emulator, make: Make) -> None:
    with make() as session, pytest.raises(InputFileError, match=r"missing\.png"):
        session.run(small_workflow("missing.png"))
    assert emulator.state()["requests"] == []


def test_the_first_run_launches_and_the_end_stops(emulator: Emulator, make: Make) -> None:
    with make() as session:
        assert session.machine is None
        assert session.summary == []
        session.run(small_workflow())
        session.run(small_workflow(seed=2))
        assert statuses(emulator) == ["Ready"]
    assert statuses(emulator) == ["Stopped"]


def test_it_may_start_at_once(emulator: Emulator, make: Make) -> None:
    with make(start=True):
        assert statuses(emulator) == ["Ready"]
    assert statuses(emulator) == ["Stopped"]


def test_to_start_at_once_it_must_know_what(emulator: Emulator, make: Make) -> None:
    with (
        pytest.raises(ConfigError, match="which workflow"),
        make(start=True, workflow_version_id=None),
    ):
        pass
    assert statuses(emulator) == []


def test_nothing_is_launched_to_free_memory(emulator: Emulator, make: Make) -> None:
    with make() as session:
        with pytest.raises(MachineError, match="nothing to free"):
            session.free()
        session.run(small_workflow())
        session.free()
    assert statuses(emulator) == ["Stopped"]


def test_submit_returns_before_there_is_a_machine(starting: Emulator, tmp_path: Path) -> None:
    with RunComfySession(settings=account(starting, tmp_path)) as session:
        begun = time.monotonic()
        run = session.submit(small_workflow())
        assert time.monotonic() - begun < 5.0
        assert run.status == "starting"
        first = next(run.events())
        assert first.kind == "machine"
        assert first.message.startswith("launching a medium machine for account ")
        assert soon(lambda: run.progress.message.startswith("starting, "))
        assert run.progress.kind == "machine"
        run.cancel()
        assert run.status == "cancelled"
        with pytest.raises(RunCancelled):
            run.wait()
        assert statuses(starting) == ["Stopped"]
    assert launches(starting) == 1


def test_the_start_is_reported_to_the_run(emulator: Emulator, make: Make) -> None:
    seen: list[Progress] = []
    with make() as session:
        session.run(small_workflow(), on_progress=seen.append)
    kinds = [each.kind for each in seen]
    assert kinds[0] == "machine"
    assert "upload" in kinds
    assert kinds[-1] == "finished"


# --- who waits -----------------------------------------------------------------------------------


def test_first_runs_in_several_threads_launch_one_machine(emulator: Emulator, make: Make) -> None:
    results: list[object] = []
    with make() as session:
        barrier = threading.Barrier(6)

        def work(seed: int) -> None:
            barrier.wait()
            results.append(session.run(small_workflow(seed=seed)).image.size)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 6
    assert launches(emulator) == 1


def test_a_start_goes_on_while_somebody_waits(tmp_path: Path) -> None:
    with (
        Emulator(time="real", startup_s=3.0, run_s=0.0, rate_limit=None) as emulator,
        RunComfySession(settings=account(emulator, tmp_path)) as session,
    ):
        first, second = (session.submit(small_workflow(seed=seed)) for seed in (1, 2))
        assert soon(lambda: statuses(emulator) == ["Starting"])
        first.cancel()
        assert first.status == "cancelled"
        assert second.status == "starting"
        assert second.wait().mesh.size
        assert launches(emulator) == 1


def test_after_a_start_that_was_given_up_the_next_run_begins_another(
    starting: Emulator, tmp_path: Path
) -> None:
    settings = account(starting, tmp_path, max_machines=1)
    with RunComfySession(settings=settings) as session:
        for count in (1, 2):
            run = session.submit(small_workflow(seed=count))
            assert soon(lambda: launches(starting) == count)  # noqa: B023
            run.cancel()
            assert statuses(starting) == ["Stopped"] * count


def test_a_session_that_ends_ends_its_start(starting: Emulator, tmp_path: Path) -> None:
    with RunComfySession(settings=account(starting, tmp_path)) as session:
        run = session.submit(small_workflow())
        assert soon(lambda: statuses(starting) == ["Starting"])
    assert run.status == "cancelled"
    assert statuses(starting) == ["Stopped"]


def test_one_that_waits_for_the_dev_server_can_leave(starting: Emulator, tmp_path: Path) -> None:
    settings = account(starting, tmp_path)
    upping = threading.Thread(target=_up, args=(settings,), daemon=True)
    upping.start()
    file = StateFile(settings.state_file)
    assert soon(lambda: bool(file.read().server_id))
    with RunComfySession(settings=settings) as session:
        run = session.submit(small_workflow())
        assert soon(lambda: run.progress.message.startswith("starting, "))
        run.cancel()
        assert run.status == "cancelled"
        # It is left to whoever started it.
        assert statuses(starting) == ["Starting"]
    DevServer(settings).down(force=True)
    upping.join(30)


def _up(settings: Settings) -> None:
    with pytest.raises(MachineError):
        DevServer(settings).up()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_launches_nothing_for_its_parent(emulator: Emulator, make: Make) -> None:
    with make() as session:
        pid = os.fork()
        if not pid:
            try:
                session.run(small_workflow())
            except ConfigError as error:
                os._exit("forked" in str(error))
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert statuses(emulator) == []
        assert session.run(small_workflow()).image.size
    assert launches(emulator) == 1


# --- what replaces one that fails ----------------------------------------------------------------


def test_one_that_ends_while_it_starts_is_replaced_once(emulator: Emulator, make: Make) -> None:
    emulator.faults.add(MachineFault(action="error"))
    with make() as session:
        assert session.run(small_workflow()).image.size
    assert len(statuses(emulator)) == 2


def test_the_second_failure_is_an_error(emulator: Emulator, make: Make) -> None:
    emulator.faults.add(MachineFault(action="error", times=3))
    with make() as session, pytest.raises(MachineStartFailed, match="ended while it started"):
        session.run(small_workflow())
    assert launches(emulator) == 2


@pytest.mark.parametrize("fault", [{"status": 502}, {"action": "drop"}, {"action": "hang"}])
def test_one_that_never_answers_is_stopped_and_replaced(
    emulator: Emulator, make: Make, fault: dict[str, Any]
) -> None:
    grace = {"ready_grace_s": 1.0}
    path = "/comfyui/[^/]+/system_stats$"
    # As long as it takes: the first machine's requests alone.
    striking = HttpFault(path=path, times=10_000, **fault)
    emulator.faults.add(striking)

    def lift(progress: Progress) -> None:
        if progress.message.startswith("launching") and launches(emulator) == 1:
            emulator.faults.clear()

    with make(**grace) as session:
        assert session.run(small_workflow(), on_progress=lift).image.size
        assert statuses(emulator) == ["Stopped", "Ready"]


def test_two_that_never_answer_are_an_error(emulator: Emulator, make: Make) -> None:
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=10_000))
    failed = pytest.raises(MachineStartFailed, match=r"is ready, but .* not answered for 1 s")
    with make(ready_grace_s=1.0) as session, failed:
        session.run(small_workflow())
    assert statuses(emulator) == ["Stopped", "Stopped"]


def test_a_dev_server_that_never_answers_is_left_and_reported(
    emulator: Emulator, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = account(emulator, tmp_path)
    up = DevServer(settings).up()
    silence(emulator, up.server_id, status=502)
    with make() as session:
        assert session.run(small_workflow()).image.size
    assert statuses(emulator) == ["Ready", "Stopped"]
    assert "launching another machine" in caplog.text
    emulator.faults.clear()
    DevServer(settings).down()
