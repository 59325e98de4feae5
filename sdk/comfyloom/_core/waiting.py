"""Deadlines, and waiting until something is so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import attrs

from comfyloom._core.clock import SYSTEM_CLOCK, Clock

T = TypeVar("T")

FOREVER: Final = float("inf")
"""Seconds of a wait without an end."""


@attrs.frozen
class Deadline:
    """A moment after which waiting ends; `None` seconds never end."""

    at: float | None
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float | None, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(None if seconds is None else clock.monotonic() + seconds, clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 when over, infinity without an end."""
        return FOREVER if self.at is None else max(0.0, self.at - self.clock.monotonic())

    @property
    def over(self) -> bool:
        """Whether the moment has passed."""
        return self.remaining_s <= 0.0


@attrs.frozen(kw_only=True)
class Waiter(Generic[T]):
    """Observe something until it has ended, well or not.

    Args:
        observe: Looks once.
        success: Whether an observation is the end that was waited for.
        failure: Returns the error that an observation is, None if it is none.
        timed_out: Makes the error of a wait that was too long, from the last observation.
        interval_s: Seconds between two observations.
        deadline: When waiting ends.
        seen: Told each observation that is not the end.
    """

    observe: Callable[[], T]
    success: Callable[[T], bool]
    timed_out: Callable[[T | None], Exception]
    interval_s: float
    deadline: Deadline
    failure: Callable[[T], Exception | None] = lambda _: None
    seen: Callable[[T], None] = lambda _: None

    def wait(self) -> T:
        """Return the first observation that is a success.

        Raises:
            Exception: What `failure` or, after the deadline, `timed_out` makes of an observation,
                and whatever `observe` and `seen` raise.
        """
        last: T | None = None
        while not self.deadline.over:
            last = self.observe()
            if self.success(last):
                return last
            if (failure := self.failure(last)) is not None:
                raise failure
            self.seen(last)
            self.deadline.clock.sleep(min(self.interval_s, self.deadline.remaining_s))
        raise self.timed_out(last)
