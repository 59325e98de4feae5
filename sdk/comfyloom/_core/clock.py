"""An injectable clock, so that tests never sleep."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The time functions that the SDK uses."""

    def monotonic(self) -> float:
        """Seconds since a fixed moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
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
        """Sleep; a negative time counts as 0."""
        time.sleep(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()
