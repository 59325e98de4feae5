"""A machine's life against a control plane that misbehaves in every way; no test sleeps."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from comfyloom._machines.heartbeat import Heartbeat
from comfyloom._machines.launch import draw_lease
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._machines.lease import Lease
from comfyloom.errors import (
    ApiError,
    MachineError,
    MachineLeak,
    MachineStartFailed,
    MachineTimeout,
    NotFound,
    TransportError,
    Unauthorized,
)
from comfyloom.progress import Progress
from machines_lab import (
    STARTING,
    FakeApi,
    FakeComfyUI,
    RecordingTracker,
    launched_machines,
    ready,
    start,
)
from support import FakeClock

Make = Callable[..., tuple[LaunchedMachine, FakeApi]]


@pytest.fixture
def make(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    with launched_machines(clock, monkeypatch) as made:
        yield made


def test_leases_are_distinctive() -> None:
    leases = [draw_lease(random.Random(seed)) for seed in range(500)]
    assert all(900 <= lease <= 1799 for lease in leases)
    assert not any(lease % 60 == 0 for lease in leases)
    assert len(set(leases)) > 250


def test_a_machine_whose_start_took_long_is_fresh(make: Any) -> None:
    machine, _ = make(get=[*[STARTING] * 60, ready])
    start(machine)
    assert machine.started_in_s > machine.api.timeouts.fresh_s
    assert machine.is_fresh


def test_a_machine_is_launched_used_and_stopped_once(make: Any, clock: FakeClock) -> None:
    machine, api = make(get=[STARTING, STARTING, ready])
    seen: list[Progress] = []
    start(machine, seen)
    assert machine.server_id == "s-1"
    assert [progress.kind for progress in seen] == ["machine"] * 3
    assert "usually 120 to 300 s" in seen[1].message
    assert seen[-1].message.startswith("ready after")
    assert machine.is_fresh
    clock.sleep(3600)
    assert not machine.is_fresh
    machine.stop()
    machine.stop()
    assert api.count("launch") == api.count("stop") == 1
    assert machine.billed_s == pytest.approx(3600, abs=2)
    assert str(machine.cost) == "0.9900"


def test_the_platform_may_not_know_a_young_machine(make: Any) -> None:
    machine, _ = make(get=[NotFound(), NotFound(), ready])
    start(machine)
    assert machine.comfyui is not None


def test_a_machine_that_stays_unknown_has_failed(make: Any, clock: FakeClock) -> None:
    machine, _ = make(get=[NotFound()])
    with pytest.raises(MachineStartFailed):
        start(machine)
    assert sum(clock.slept) == pytest.approx(60, abs=3)


def test_one_that_was_seen_and_is_in_no_list_has_ended(make: Any, clock: FakeClock) -> None:
    """`dev down` in another process: nobody waits for a minute."""
    machine, _ = make(get=[STARTING, NotFound()], list=[[]])
    with pytest.raises(MachineStartFailed, match="unknown to the platform"):
        start(machine)
    assert sum(clock.slept) < 10


def test_one_that_is_still_listed_is_waited_for(make: Any, clock: FakeClock) -> None:
    listed = [[], [STARTING]]  # before the launch, and when a gateway answers 404
    machine, _ = make(get=[STARTING, NotFound(), ready], list=listed)
    start(machine)
    assert machine.comfyui is not None


@pytest.mark.parametrize("status", ["Error", "Deleting", "stopped"])
def test_an_end_while_starting_fails_immediately(make: Any, status: str, clock: FakeClock) -> None:
    ended = attrs.evolve(STARTING, current_status=status)
    machine, api = make(get=[STARTING, ended], stop=[NotFound()])
    with pytest.raises(MachineStartFailed, match=status) as caught:
        start(machine)
    assert caught.value.server_id == "s-1"
    machine.stop()
    assert api.count("stop") == 1
    assert sum(clock.slept) < 10


def test_a_start_takes_thirty_minutes_at_most(make: Any, clock: FakeClock) -> None:
    machine, _ = make(get=[STARTING])
    with pytest.raises(MachineTimeout, match="Starting"):
        start(machine)
    assert sum(clock.slept) == pytest.approx(1800, abs=3)


def test_transient_errors_do_not_abandon_a_machine(make: Any) -> None:
    machine, _ = make(get=[TransportError(), ApiError(status=500), ready])
    start(machine)
    assert machine.comfyui is not None


def test_a_refused_token_ends_the_wait(make: Any) -> None:
    machine, _ = make(get=[Unauthorized(status=401)])
    with pytest.raises(Unauthorized):
        start(machine)


def test_a_ready_machine_may_not_answer_yet(make: Any, clock: FakeClock) -> None:
    FakeComfyUI.refusals = 5
    machine, _ = make(get=[ready])
    FakeComfyUI.refusals = 5
    start(machine)
    assert len(clock.slept) == 5


def test_an_end_between_ready_and_answering_is_a_failed_start(make: Any) -> None:
    machine, _ = make(get=[ready, attrs.evolve(STARTING, current_status="Error")])
    FakeComfyUI.refusals = 99
    with pytest.raises(MachineStartFailed):
        start(machine)


# --- the lease ------------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_the_machine_is_used(make: Any, clock: FakeClock) -> None:
    machine, api = make(extend=[lambda api: ready(api)])
    start(machine)
    begun = clock.now
    for _ in range(200):
        machine.touch()
        clock.sleep(10.0)
    durations = [argument for name, argument in api.calls if name == "extend"]
    assert 1 <= len(durations) <= 4
    lease = draw_lease(random.Random(7))
    assert durations[0] >= lease + lease / 2 - 60
    assert clock.now - begun == 2000


def test_a_lease_that_cannot_be_renewed_does_not_end_the_run(make: Any, clock: FakeClock) -> None:
    machine, api = make(extend=[TransportError()])
    start(machine)
    for _ in range(100):
        machine.touch()
        clock.sleep(10.0)
    assert 2 < api.count("extend") < 30


# --- the end --------------------------------------------------------------------------------------


def test_a_stop_is_repeated_until_confirmed(make: Any) -> None:
    machine, api = make(stop=[TransportError(), ApiError(status=500), None])
    start(machine)
    machine.stop()
    assert api.count("stop") == 3


def test_an_unknown_young_machine_does_not_count_as_stopped(make: Any, clock: FakeClock) -> None:
    machine, api = make(get=[NotFound()], stop=[NotFound(), NotFound(), None])
    with pytest.raises(MachineStartFailed):
        start(machine)
    clock.now -= 55  # as if the start was given up early
    machine.stop()
    assert api.count("stop") == 3


def test_a_stop_that_is_never_confirmed_is_a_machine_leak(make: Any) -> None:
    machine, _ = make(stop=[ApiError("refused", status=500)])
    start(machine)
    with pytest.raises(MachineLeak) as caught:
        machine.stop()
    for word in ("s-1", "medium", "0.99 USD an hour", "comfyloom machines stop s-1", "dashboard"):
        assert word in str(caught.value)
    assert caught.value.server_id == "s-1"


@pytest.mark.parametrize("answer", [NotFound(), attrs.evolve(STARTING, current_status="Stopped")])
def test_a_machine_that_died_is_reported(make: Any, answer: Any) -> None:
    machine, _ = make(get=[ready, answer])
    start(machine)
    with pytest.raises(MachineError, match="has ended"):
        machine.check_alive()


def test_an_unreachable_platform_does_not_mean_a_dead_machine(make: Any) -> None:
    machine, _ = make(get=[ready, TransportError()])
    start(machine)
    machine.check_alive()


# --- heartbeats, forks and records ----------------------------------------------------------------


def guarded(make: Any, **script: Any) -> tuple[LaunchedMachine, FakeApi, RecordingTracker]:
    machine, api = make(**script)
    machine.tracker = RecordingTracker(may_hand_over=True)
    return machine, api, machine.tracker


def test_a_launch_is_recorded_before_and_its_end_after(make: Any) -> None:
    machine, api, tracker = guarded(make, list=[[attrs.evolve(STARTING, server_id="other")]])
    start(machine)
    machine.stop()
    assert tracker.calls == ["intent ['other']", "launched s-1", "ended: deleted"]
    assert [name for name, _ in api.calls][:2] == ["list", "launch"]


def test_a_refused_launch_stays_an_intent(make: Any) -> None:
    machine, _, tracker = guarded(make, launch=[ApiError("no", status=422)])
    with pytest.raises(ApiError):
        start(machine)
    assert tracker.calls == ["intent []", "refused"]


def test_a_launch_that_cannot_be_looked_for_is_left_to_the_guard(make: Any) -> None:
    listed = [[], ApiError("no", status=500)]
    machine, _, tracker = guarded(make, launch=[TransportError("lost", sent=True)], list=listed)
    with pytest.raises(MachineLeak):
        start(machine)
    assert tracker.calls == ["intent []", "hand over"]


def test_a_stop_is_left_to_the_guard_after_five_seconds(
    make: Any, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, _, tracker = guarded(make, stop=[ApiError("refused", status=500)])
    start(machine)
    begun = clock.now
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(MachineLeak) as caught:
            machine.stop()
    finally:
        logging.disable(logging.NOTSET)
    assert clock.now - begun == pytest.approx(5.0)
    assert tracker.calls[-2:] == ["stopping", "hand over"]
    printed = capsys.readouterr().err
    for word in ("s-1", "0.99 USD an hour", "comfyloom machines stop s-1", "guard process"):
        assert word in printed
        assert word in str(caught.value)
    assert caught.value.already_printed


def test_heartbeats_are_recorded_once_a_minute(make: Any, clock: FakeClock) -> None:
    machine, _, tracker = guarded(make)
    start(machine)
    for _ in range(40):
        clock.sleep(15)
        machine.beat()
    assert tracker.calls.count("beat") == 10


def test_an_idle_machine_is_renewed_for_ten_minutes_and_then_left_to_its_lease(
    make: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine, _ = make()
    start(machine)
    renewed: list[float] = []
    begun = clock.now
    monkeypatch.setattr(Lease, "touch", lambda *_: renewed.append(clock.now - begun))
    for _ in range(120):
        clock.sleep(15)
        machine.beat()
    assert renewed[-1] == 600.0
    assert len([each for each in caplog.messages if "has been idle" in each]) == 1
    machine.touch()
    clock.sleep(15)
    machine.beat()
    assert renewed[-1] > 1800.0


def test_one_heartbeat_thread_serves_all_machines_and_ends_with_the_last() -> None:
    beats = {"a": 0, "b": 0}

    def a() -> None:
        beats["a"] += 1
        raise ValueError("of one machine")

    def b() -> None:
        beats["b"] += 1

    # The thread of another test may still be ending.
    before = set(threading.enumerate())

    def heartbeat_threads() -> int:
        found = set(threading.enumerate()) - before
        return [each.name for each in found].count("comfyloom-heartbeat")

    heartbeat = Heartbeat(every_s=0.005)
    heartbeat.add(a)
    heartbeat.add(b)
    assert heartbeat_threads() == 1
    while min(beats.values()) < 3:
        threading.Event().wait(0.005)
    heartbeat.remove(a)
    heartbeat.remove(b)
    heartbeat.remove(b)
    while heartbeat_threads():
        threading.Event().wait(0.005)


def test_a_forked_child_stops_nothing(make: Any) -> None:
    machine, api = make()
    start(machine)
    machine._owner = -1  # as in a forked child
    machine.stop()
    assert api.count("stop") == 0


def test_a_start_that_another_thread_ends_is_not_waited_for(make: Any, clock: FakeClock) -> None:
    """Its 404 would otherwise mean, for a minute, that the platform does not know it yet."""

    def stopped(_: FakeApi) -> None:
        machine.stop()
        raise NotFound(status=404)

    machine, api = make(get=[STARTING, stopped, NotFound(status=404)])
    with pytest.raises(MachineStartFailed, match="stopped by this process"):
        start(machine)
    assert api.count("get") == 2
    assert sum(clock.slept) < 10


def test_a_machine_that_became_ready_unnoticed_is_billed(make: Any, clock: FakeClock) -> None:
    """Interrupted between two polls: only the answer to the stop says since when it is billed."""
    machine, _ = make(stop=[ready])
    machine.api.ready_at = clock.time() + 10
    machine.launch("version")
    clock.sleep(16)
    machine.stop()
    assert machine.billed_s == pytest.approx(6, abs=0.5)
    assert "billed 6 s" in machine.summary
