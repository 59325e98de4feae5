"""Deadlines, backoff and waiting, without waiting."""

from __future__ import annotations

import random

from comfyloom._core.waiting import Deadline, polling
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


def test_an_unlimited_deadline_never_passes(clock: FakeClock) -> None:
    assert not Deadline.after(None, clock).over


def test_delays_double_with_jitter_up_to_the_longest() -> None:
    class Most(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    assert list(Backoff(attempts=7, random=Most()).delays()) == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    low = list(Backoff(random=random.Random(1)).delays())
    assert all(0 <= delay <= ceiling for delay, ceiling in zip(low, [0.5, 1, 2, 4], strict=True))


def test_polling_starts_immediately_and_then_waits_the_interval(clock: FakeClock) -> None:
    states = iter([1, 2, 3, 4])
    for _ in polling(2.0, Deadline.after(60.0, clock)):
        if next(states) == 3:
            break
    assert clock.slept == [2.0, 2.0]


def test_polling_has_a_last_round_at_the_deadline(clock: FakeClock) -> None:
    left = list(polling(2.0, Deadline.after(5.0, clock)))
    assert left == [5.0, 3.0, 1.0, 0.0]
    assert clock.slept == [2.0, 2.0, 1.0]


def test_polling_has_a_round_although_the_deadline_has_passed(clock: FakeClock) -> None:
    assert list(polling(2.0, Deadline.after(0.0, clock))) == [0.0]
    assert clock.slept == []
