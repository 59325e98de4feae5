"""Time as something that is passed in, so that no test ever sleeps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the SDK needs of time."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The real time."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds of `time.time`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Sleep; a negative time is none."""
        time.sleep(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()
