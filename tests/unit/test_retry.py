"""Deadlines, backoff and waiting, without waiting."""

from __future__ import annotations

import random

import pytest

from comfyloom._core.waiting import Deadline, Waiter
from comfyloom._http.retry import Backoff
from support import FakeClock


def test_a_deadline_counts_down(clock: FakeClock) -> None:
    deadline = Deadline.after(5.0, clock)
    clock.sleep(3.0)
    assert deadline.remaining_s == 2.0
    assert not deadline.over
    clock.sleep(3.0)
    assert deadline.over
    assert deadline.remaining_s == 0.0


def test_no_deadline_is_never_over(clock: FakeClock) -> None:
    assert not Deadline.after(None, clock).over


def test_delays_double_with_jitter_up_to_the_longest() -> None:
    class Most(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    assert list(Backoff(attempts=7, random=Most()).delays()) == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    low = list(Backoff(random=random.Random(1)).delays())
    assert all(0 <= delay <= ceiling for delay, ceiling in zip(low, [0.5, 1, 2, 4], strict=True))


def test_a_waiter_returns_the_first_observation_that_is_the_end(clock: FakeClock) -> None:
    states = iter([1, 2, 3, 4])
    seen: list[int] = []
    waiter = Waiter[int](
        observe=lambda: next(states),
        success=lambda state: state == 3,
        seen=seen.append,
        timed_out=lambda last: TimeoutError(last),
        interval_s=2.0,
        deadline=Deadline.after(60.0, clock),
    )
    assert waiter.wait() == 3
    assert seen == [1, 2]
    assert clock.slept == [2.0, 2.0]


def test_a_waiter_gives_up_with_its_last_observation(clock: FakeClock) -> None:
    waiter = Waiter[str](
        observe=lambda: "Starting",
        success=lambda _: False,
        timed_out=lambda last: TimeoutError(last),
        interval_s=2.0,
        deadline=Deadline.after(5.0, clock),
    )
    with pytest.raises(TimeoutError, match="Starting"):
        waiter.wait()
    assert clock.slept == [2.0, 2.0, 1.0]


def test_a_waiter_fails_at_once_on_an_end_that_is_none(clock: FakeClock) -> None:
    states = iter(["Starting", "Error", "Ready"])
    waiter = Waiter[str](
        observe=lambda: next(states),
        success=lambda state: state == "Ready",
        failure=lambda state: ValueError(state) if state == "Error" else None,
        timed_out=lambda last: TimeoutError(last),
        interval_s=2.0,
        deadline=Deadline.after(60.0, clock),
    )
    with pytest.raises(ValueError, match="Error"):
        waiter.wait()
    assert clock.slept == [2.0]
