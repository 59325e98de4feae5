"""Launches without a usable answer: the machine is found, or named, never launched twice."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from comfyloom._machines.launch import draw_lease
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._runcomfy.models import Server
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    LedgerError,
    MachineLeak,
    MachineStartFailed,
    TransportError,
    Unauthorized,
)
from machines_lab import (
    STARTING,
    FakeApi,
    RecordingTracker,
    launched_machines,
    start,
)
from support import FakeClock

Make = Callable[..., tuple[LaunchedMachine, FakeApi]]


@pytest.fixture
def make(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    with launched_machines(clock, monkeypatch) as made:
        yield made


def ours(api: FakeApi) -> list[Server]:
    lease = next(argument for name, argument in api.calls if name == "launch")[2]
    foreign = attrs.evolve(STARTING, server_id="foreign", estimated_duration=600)
    mine = attrs.evolve(STARTING, server_id="s-1", estimated_duration=lease)
    return [foreign, mine]


def test_a_lost_answer_is_found_by_its_lease(make: Any) -> None:
    machine, api = make(launch=[TransportError(sent=True)], list=[[], [], ours])
    start(machine)
    assert machine.server_id == "s-1"
    assert api.count("launch") == 1


@pytest.mark.parametrize("failure", [ApiError(status=code) for code in (502, 200, 408, 499)])
def test_an_unusable_answer_is_searched_for_as_well(make: Any, failure: ApiError) -> None:
    machine, api = make(launch=[failure], list=[[], ours])
    start(machine)
    assert api.count("launch") == 1


def test_a_machine_that_was_there_before_is_not_ours(make: Any, clock: FakeClock) -> None:
    lease = draw_lease(random.Random(7))
    older = attrs.evolve(STARTING, server_id="older", estimated_duration=lease)
    machine, api = make(launch=[TransportError(sent=True)], list=[[older]])
    with pytest.raises(MachineStartFailed, match="no machine appeared"):
        start(machine)
    machine.stop()
    assert api.count("launch") == 1
    assert api.count("stop") == 0
    assert sum(clock.slept) == pytest.approx(60, abs=3)


def test_two_candidates_are_left_alone_and_named(make: Any) -> None:
    lease = draw_lease(random.Random(7))
    both = [attrs.evolve(STARTING, server_id=name, estimated_duration=lease) for name in "ab"]
    machine, api = make(launch=[TransportError(sent=True)], list=[[], both])
    with pytest.raises(MachineLeak, match="a b may be its machine"):
        start(machine)
    machine.stop()
    assert api.count("stop") == 0


@pytest.mark.parametrize("refusal", [ApiError(status=422), TransportError(sent=False)])
def test_a_refused_launch_is_not_searched_for(make: Any, refusal: Exception) -> None:
    machine, api = make(launch=[refusal])
    with pytest.raises(type(refusal)):
        start(machine)
    assert api.count("list") == 1
    assert api.count("launch") == 1


def test_a_new_machine_with_another_duration_is_left_and_named(make: Any) -> None:
    stranger = attrs.evolve(STARTING, server_id="stranger", estimated_duration=1200)
    machine, api = make(launch=[TransportError(sent=True)], list=[[], [stranger]])
    with pytest.raises(MachineLeak, match="stranger may be its machine"):
        start(machine)
    machine.stop()
    assert api.count("stop") == 0


def test_a_lost_answer_that_cannot_be_searched_for_is_a_leak(make: Any) -> None:
    machine, api = make(launch=[TransportError(sent=True)], list=[[], TransportError()])
    with pytest.raises(MachineLeak, match="does not list"):
        start(machine)
    assert api.count("launch") == 1


def test_a_platform_that_cannot_list_can_still_launch(make: Any) -> None:
    machine, _ = make(list=[ApiError(status=500)])
    start(machine)
    assert machine.comfyui is not None


# --- what is recorded of a launch ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "listed", "recorded"),
    [
        (ApiError(status=422), [[]], "refused"),
        (ApiError(status=503, body='{"message": "sold out"}'), [[]], "refused"),
        (ApiError(status=503, body="<html>"), [[]], "ended: never appeared"),
        (ApiError(status=503), [[]], "ended: never appeared"),
        (ApiError(status=500, body='{"message": "sold out"}'), [[]], "ended: never appeared"),
        (Unauthorized(status=401), [[]], "ended: refused"),
        (TransportError(sent=False), [[]], "ended: refused"),
        (TransportError(sent=True), [[]], "ended: never appeared"),
        (TransportError(sent=True), [[], TransportError()], "hand over"),
        (STARTING, [[]], "launched s-1"),
    ],
)
def test_the_outcome_of_a_launch_is_recorded(
    make: Any, answer: Any, listed: list[Any], recorded: str
) -> None:
    tracker = RecordingTracker()
    machine, _ = make(launch=[answer], list=listed)
    machine.tracker = tracker
    with contextlib.suppress(ComfyloomError):
        machine.launch("v-1")
    assert tracker.calls == ["intent []", recorded]


def test_a_launch_that_cannot_be_recorded_is_not_sent(make: Any) -> None:
    class FullDisk(RecordingTracker):
        def record_intent(self, *_: Any) -> None:
            raise LedgerError("the disk is full")

    tracker = FullDisk()
    machine, api = make()
    machine.tracker = tracker
    with pytest.raises(LedgerError, match="the disk is full"):
        machine.launch("v-1")
    assert api.count("launch") == 0
    assert tracker.calls == []
    assert machine.leak is None


@pytest.mark.parametrize(("valid_s", "recorded_s"), [(0.0, None), (7200.0, 7200.0)])
def test_a_record_is_valid_for_the_lease_or_as_long_as_asked(
    make: Any, valid_s: float, recorded_s: float | None
) -> None:
    recorded: list[tuple[int, float]] = []

    class Times(RecordingTracker):
        def record_intent(self, seconds: int, _: Any, lease_s: float) -> None:
            recorded.append((seconds, lease_s))

    machine, _ = make()
    machine.tracker, machine.valid_s = Times(), valid_s
    machine.launch("v-1")
    ((seconds, valid_until_s),) = recorded
    assert valid_until_s == (recorded_s or seconds)
