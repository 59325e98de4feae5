"""Deadlines, and polling until one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from comfyloom._core.clock import SYSTEM_CLOCK, Clock

FOREVER: Final = float("inf")
"""Seconds of an unlimited wait."""


@attrs.frozen
class Deadline:
    """A moment after which waiting ends; with `None`, never."""

    at: float | None
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float | None, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """Return the deadline `seconds` from now."""
        if seconds is None or seconds == FOREVER:
            return cls(None, clock)
        return cls(clock.monotonic() + seconds, clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 when over, infinity without a limit."""
        return FOREVER if self.at is None else max(0.0, self.at - self.clock.monotonic())

    @property
    def over(self) -> bool:
        """Whether the moment has passed."""
        return self.remaining_s <= 0.0

    def is_over(self) -> bool:
        """Return whether the moment has passed, for what calls a function."""
        return self.over


def polling(interval_s: float, deadline: Deadline) -> Iterator[float]:
    """Yield the seconds left, at once and then every `interval_s`, until the deadline has passed.

        for _ in polling(2.0, deadline):
            if (found := look()) is not None:
                return found
        raise ...  # it was not found in time

    There is always a first round, and a last one at the deadline.
    """
    while True:
        yield deadline.remaining_s
        if deadline.over:
            return
        deadline.clock.sleep(min(interval_s, deadline.remaining_s))
