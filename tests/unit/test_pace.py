"""When an answer is given up."""

from __future__ import annotations

import pytest

from comfyloom._http.pace import Pace
from support import FakeClock


def received(pace: Pace, clock: FakeClock, pieces: int, size: int, every_s: float) -> int:
    """Return how many pieces came before the answer was given up."""
    for count in range(pieces):
        clock.now += every_s
        try:
            pace.note(size)
        except TimeoutError:
            return count
    return pieces


def test_headers_must_be_complete_in_time(clock: FakeClock) -> None:
    assert received(Pace(clock, 10.0, 600.0), clock, 100, 5000, 1.0) == 9


def test_a_body_begins_anew_and_may_take_its_time(clock: FakeClock) -> None:
    pace = Pace(clock, 10.0, 600.0)
    assert received(pace, clock, 9, 1, 1.0) == 9
    pace.begin(600.0)
    assert received(pace, clock, 1000, 1024, 9.0) == 66


def test_a_drip_is_given_up(clock: FakeClock) -> None:
    pace = Pace(clock, 10.0, 600.0)
    pace.begin(600.0)
    assert received(pace, clock, 1000, 100, 1.0) == 9
    pace.begin(600.0)
    assert received(pace, clock, 20, 200, 1.0) == 20  # 2 kB in each 10 s
    assert received(pace, clock, 1000, 10, 1.0) < 20  # and then no more


def test_what_nobody_wants_is_given_up(clock: FakeClock) -> None:
    wanted = [False, False, True]
    pace = Pace(clock, 10.0, 600.0, lambda: wanted.pop(0))
    assert received(pace, clock, 10, 5000, 0.1) == 2
    with pytest.raises(IndexError):
        pace.note(1)
