"""A machine that vanishes between two runs, or before it accepts one, is replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from account_lab import silence, statuses
from comfyloom import DevServer, RunComfySession, Timeouts
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import (
    ApiError,
    MachineError,
    MachineLeak,
    RunError,
    RunLost,
    RunTimeout,
    TransportError,
)
from comfyloom.progress import Progress
from comfyloom.settings import Settings
from small_runs import small_workflow
from support import RENDER

# A healthy machine must answer in this time on a computer that is busy with other things.
SILENT_S = 3.0
PROBING = Timeouts(fresh_s=0.0, silent_machine_s=SILENT_S, ask_every_s=0.1, probe_s=1.0, poll_s=1.0)
"""Each run probes first; a machine that answers nothing is given up soon."""
TRUSTING = Timeouts(silent_machine_s=SILENT_S, ask_every_s=0.1, probe_s=1.0, poll_s=1.0)
"""The first refusal tells it."""
PICTURE = RENDER.read_bytes() + b"another"
"""The render with bytes after its end: a file that no machine has yet."""
Make = Callable[..., RunComfySession]


def requests_about(emulator: Emulator, server_id: str) -> int:
    return sum(server_id in each["path"] for each in emulator.state()["requests"])


def machine_of(session: RunComfySession) -> str:
    assert session.machine is not None
    return session.machine.server_id


def used_and_silent(session: RunComfySession, emulator: Emulator, **fault: Any) -> str:
    """Run on a machine and silence it; return its id."""
    session.run(small_workflow())
    server_id = machine_of(session)
    silence(emulator, server_id, **fault)
    return server_id


@pytest.mark.parametrize("timeouts", [PROBING, TRUSTING])
def test_one_that_vanished_between_runs(emulator: Emulator, make: Make, timeouts: Timeouts) -> None:
    with make(timeouts=timeouts) as session:
        session.run(small_workflow())
        first = machine_of(session)
        emulator.steal(first)
        before = requests_about(emulator, first)
        assert session.run(small_workflow(seed=2)).mesh.size
        assert machine_of(session) != first
        assert requests_about(emulator, first) - before <= 6
    assert statuses(emulator) == ["Stopped", "Stopped"]


def test_a_404_in_its_place_is_not_taken_for_its_answer(emulator: Emulator, make: Make) -> None:
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        first = machine_of(session)
        emulator.steal(first)
        silence(emulator, first, status=404)
        assert session.run(small_workflow(seed=2)).mesh.size
        assert machine_of(session) != first


def test_several_runs_share_the_next_one(emulator: Emulator, make: Make) -> None:
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        emulator.steal(machine_of(session))
        results = list(session.map([small_workflow(seed=each) for each in range(4)], concurrency=4))
        assert len(results) == 4
    assert len(statuses(emulator)) == 2


def test_one_that_dies_before_it_accepts_the_prompt(emulator: Emulator, make: Make) -> None:
    def steal(progress: Progress) -> None:
        if progress.kind == "upload" and len(statuses(emulator)) == 1:
            emulator.steal(machine_of(session))

    # So that the prompt is not sent before the machine is stolen.
    emulator.faults.add(HttpFault(action="delay", path="/upload/image$", seconds=1.0))
    with make(timeouts=TRUSTING) as session:
        assert session.run(small_workflow(), on_progress=steal).image.size
    assert statuses(emulator) == ["Stopped", "Stopped"]


@pytest.mark.parametrize("timeouts", [PROBING, TRUSTING])
def test_without_the_leave_to_launch_it_is_an_error(
    emulator: Emulator, settings: Settings, make: Make, timeouts: Timeouts
) -> None:
    dev = DevServer(settings)
    dev.up()
    with make(launch=False, timeouts=timeouts) as session:
        session.run(small_workflow())
        emulator.steal(machine_of(session))
        with pytest.raises(MachineError, match=r"no machine to run on: .* has ended"):
            session.run(small_workflow(seed=2))
    assert len(statuses(emulator)) == 1


def test_a_dev_server_that_vanished_is_replaced_by_a_machine_of_our_own(
    emulator: Emulator, settings: Settings, make: Make
) -> None:
    DevServer(settings).up()
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        emulator.steal(machine_of(session))
        assert session.run(small_workflow(seed=2)).image.size
        assert not session.machine.is_borrowed  # type: ignore[union-attr]
    assert statuses(emulator) == ["Stopped", "Stopped"]


def test_a_run_on_the_old_machine_is_told_of_its_end_though_another_is_in_use() -> None:
    with Emulator(time="real", startup_s=0.0, run_s=60.0, rate_limit=None) as slow:
        settings = Settings.of_environment(slow.environment())
        with RunComfySession(settings=settings, timeouts=TRUSTING) as session:
            run = session.submit(small_workflow())
            next(each for each in run.events() if each.kind == "started")
            slow.steal(machine_of(session))
            other = session.submit(small_workflow(seed=2))
            begun = time.monotonic()
            with pytest.raises(MachineError, match="has ended"):
                run.wait()
            assert time.monotonic() - begun < 30  # not only after `PollIntervals.give_up_s`
            next(each for each in other.events() if each.kind == "started")
            other.cancel()


def test_each_server_is_asked_about_its_own_machine(emulator: Emulator, make: Make) -> None:
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        old = session.server()
        emulator.steal(machine_of(session))
        session.run(small_workflow(seed=2))
        with pytest.raises(MachineError, match="has ended"):
            session._backend.check_alive(old)
        session._backend.check_alive(session.server())


def test_a_run_that_was_accepted_is_not_run_again() -> None:
    with Emulator(time="real", startup_s=0.0, run_s=60.0, rate_limit=None) as slow:
        settings = Settings.of_environment(slow.environment())
        with RunComfySession(settings=settings, timeouts=TRUSTING) as session:
            run = session.submit(small_workflow())
            next(each for each in run.events() if each.kind == "started")
            slow.steal(machine_of(session))
            with pytest.raises(MachineError, match="has ended"):
                run.wait()
        assert len(statuses(slow)) == len(slow.state()["prompts"]) == 1


def test_an_outage_while_a_prompt_runs_costs_neither_run_nor_machine() -> None:
    with Emulator(time="real", startup_s=0.0, run_s=4 * SILENT_S, rate_limit=None) as slow:
        settings = Settings.of_environment(slow.environment())
        with RunComfySession(settings=settings, timeouts=TRUSTING) as session:
            run = session.submit(small_workflow())
            next(each for each in run.events() if each.kind == "started")
            silence(slow, machine_of(session), status=502)
            with pytest.raises((TransportError, ApiError, RunError)):
                session.run(small_workflow(seed=2), timeout=2 * SILENT_S)
            slow.faults.clear()
            assert run.wait().mesh.size
            assert statuses(slow) == ["Ready"]


def test_a_silent_dev_server_is_left_to_whoever_started_it(
    emulator: Emulator, settings: Settings, make: Make
) -> None:
    dev = DevServer(settings)
    dev.up()
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        silent = machine_of(session)
        silence(emulator, silent, status=502)
        assert session.run(small_workflow(seed=2)).image.size
        assert machine_of(session) != silent
    assert statuses(emulator) == ["Ready", "Stopped"]
    emulator.faults.clear()
    dev.down()


def test_a_machine_that_was_just_heard_is_not_probed(emulator: Emulator, make: Make) -> None:
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        before = probes(emulator)
        session.run(small_workflow(seed=2))
        assert probes(emulator) == before


def probes(emulator: Emulator) -> int:
    return sum(each["path"].endswith("/system_stats") for each in emulator.state()["requests"])


def test_a_404_of_a_gateway_is_not_the_end(emulator: Emulator, make: Make) -> None:
    """The platform's list tells that the machine still runs, and costs money."""
    with make(timeouts=PROBING) as session:
        session.run(small_workflow())
        machine = machine_of(session)
        emulator.faults.add(HttpFault(path=f"/servers/{machine}$", status=404, times=1))
        emulator.faults.add(HttpFault(path=f"/comfyui/{machine}/", status=502, times=1))
        assert session.run(small_workflow(seed=2)).image.size
        assert machine_of(session) == machine
    assert statuses(emulator) == ["Stopped"]


@pytest.mark.parametrize("timeouts", [PROBING, TRUSTING])
@pytest.mark.parametrize("fault", [{"status": 502}, {"action": "drop"}, {"action": "hang"}])
def test_one_that_no_longer_answers_is_stopped_and_replaced(
    emulator: Emulator, make: Make, timeouts: Timeouts, fault: dict[str, Any]
) -> None:
    with make(timeouts=timeouts) as session:
        silent = used_and_silent(session, emulator, **fault)
        begun = time.monotonic()
        assert session.run(small_workflow(PICTURE, seed=2)).image.size  # begins with an upload
        assert time.monotonic() - begun < 30  # not only after `Timeouts.upload_s`
        assert machine_of(session) != silent
        assert statuses(emulator) == ["Stopped", "Ready"]
    assert statuses(emulator) == ["Stopped", "Stopped"]


@pytest.mark.parametrize("fault", [{"status": 502}, {"action": "drop"}, {"action": "hang"}])
def test_one_that_hangs_as_it_gets_the_prompt(
    emulator: Emulator, make: Make, fault: dict[str, Any]
) -> None:
    """It is stopped before the run goes elsewhere: the prompt cannot run twice."""
    with make(timeouts=TRUSTING) as session:
        # It has the picture already: the prompt is the first request that it does not answer.
        silent = used_and_silent(session, emulator, **fault)
        assert session.run(small_workflow(seed=2)).image.size
        assert machine_of(session) != silent
        assert statuses(emulator) == ["Stopped", "Ready"]


def test_a_prompt_that_a_silent_dev_server_may_have_is_not_run_elsewhere(
    emulator: Emulator, settings: Settings, make: Make
) -> None:
    dev = DevServer(settings)
    dev.up()
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        silent = machine_of(session)
        path = f"/comfyui/{silent}/(?!upload)"
        emulator.faults.add(HttpFault(path=path, times=10_000, action="hang"))
        with pytest.raises(RunLost, match="does not answer any more"):
            session.run(small_workflow(seed=2))
        assert statuses(emulator) == ["Ready"]  # no machine is paid for a run that is lost
        emulator.faults.clear()
        assert session.run(small_workflow(seed=3)).image.size
    dev.down()


def test_our_own_outage_costs_no_machine(emulator: Emulator, make: Make) -> None:
    """Neither machine nor platform answers: the line is down, not the machine."""
    with make(timeouts=TRUSTING) as session:
        session.run(small_workflow())
        machine = machine_of(session)
        emulator.faults.add(HttpFault(path="", times=10_000, action="drop"))
        with pytest.raises((TransportError, RunTimeout)):
            session.run(small_workflow(seed=2), timeout=2 * SILENT_S)
        emulator.faults.clear()
        assert session.run(small_workflow(seed=3)).image.size
        assert machine_of(session) == machine
    assert statuses(emulator) == ["Stopped"]


def test_one_on_which_a_prompt_runs_is_not_given_up(make: Make) -> None:
    with Emulator(time="real", startup_s=0.0, run_s=4 * SILENT_S, rate_limit=None) as emulator:
        settings = Settings.of_environment(emulator.environment())
        with RunComfySession(settings=settings, timeouts=PROBING) as session:
            run = session.submit(small_workflow())
            next(each for each in run.events() if each.kind == "started")
            machine = machine_of(session)
            path = f"/comfyui/{machine}/(upload|prompt$|system_stats)"
            emulator.faults.add(HttpFault(path=path, times=10_000, action="drop"))
            with pytest.raises((TransportError, RunError)):
                session.run(small_workflow(seed=9), timeout=2 * SILENT_S)
            assert run.wait().mesh.size
            assert statuses(emulator) == ["Ready"]


@pytest.mark.parametrize("timeouts", [PROBING, TRUSTING])
@pytest.mark.parametrize("fault", [{"status": 502}, {"action": "hang"}])
def test_one_whose_stop_is_not_confirmed_is_not_replaced(
    emulator: Emulator, make: Make, timeouts: Timeouts, fault: dict[str, Any]
) -> None:
    """It may still cost money: the user is told, before another one costs money, too."""
    with make(timeouts=timeouts) as session:
        silent = used_and_silent(session, emulator, **fault)
        stop = HttpFault(path=f"/servers/{silent}$", method="DELETE", status=500, times=1000)
        emulator.faults.add(stop)
        with pytest.raises(MachineLeak, match=silent):
            session.run(small_workflow(seed=2))
        assert statuses(emulator) == ["Ready"]
        emulator.faults.clear()
    assert statuses(emulator) == ["Stopped"]
