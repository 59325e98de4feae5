"""Deadlines, backoff and waiting, as data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import attrs

from comfyloom._clock import SYSTEM_CLOCK, Clock

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
class Backoff:
    """How often and how long to wait between attempts: doubling, with full jitter.

    The values are those of well-kept HTTP SDKs: 1 + 4 attempts, 0.5 s doubling to 8 s, 45 s in
    all; a server's own `Retry-After` is honoured up to 60 s.
    """

    attempts: int = 5
    first_s: float = 0.5
    longest_s: float = 8.0
    total_s: float = 45.0
    retry_after_s: float = 60.0
    random: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def delays(self) -> Iterator[float]:
        """Yield the wait before each further attempt."""
        ceiling = self.first_s
        for _ in range(self.attempts - 1):
            yield self.random.uniform(0.0, ceiling)
            ceiling = min(ceiling * 2, self.longest_s)


NO_RETRY = Backoff(attempts=1)


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
