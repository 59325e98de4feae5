"""The emulator's clocks: real time, time that skips waits, and time moved by hand."""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Literal

TimeMode = Literal["immediate", "manual", "real"]

_DAY_S = 86_400.0


class EmulatorClock:
    """Gives the emulator's time and runs callbacks when they are due.

    Only the emulator's event loop may wait; `now` may be read from any thread.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Return the current time, in epoch seconds."""
        raise NotImplementedError

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let waits run on this event loop."""
        self._loop = loop

    def detach(self) -> None:
        """Forget the event loop and all callbacks."""
        self._cancel_timer()
        self._callbacks.clear()
        self._loop = None

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back at the time `when` (epoch seconds), without skipping to it."""
        heapq.heappush(self._callbacks, (when, next(self._sequence), callback))
        self._run_due()

    async def sleep_until(self, when: float) -> None:
        """Wait for the time `when` (epoch seconds)."""
        if when <= self.now():
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_at(when, lambda: _wake(woken))
        await woken

    def skip_to(self, when: float) -> None:
        """Skip to `when` if this clock skips waits; otherwise do nothing."""

    def _run_due(self) -> None:
        while self._callbacks and self._callbacks[0][0] <= self.now():
            heapq.heappop(self._callbacks)[2]()
        self._set_timer()

    def _set_timer(self) -> None:
        self._cancel_timer()
        delay_s = self._next_due_s()
        if delay_s is not None and self._loop is not None:
            self._timer = self._loop.call_later(delay_s, self._run_due)

    def _next_due_s(self) -> float | None:
        """Return the real seconds until the next callback may be due, at most a day.

        None if there is no callback or if time does not pass by itself.
        """
        if not self._callbacks:
            return None
        return min(max(self._callbacks[0][0] - self.now(), 0.0), _DAY_S)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


class RealClock(EmulatorClock):
    """The wall clock."""

    def __init__(self) -> None:
        super().__init__()
        # Based on the monotonic clock: a correction of the system clock must not change a bill.
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the current time, in epoch seconds."""
        return self._epoch + time.monotonic()


class ImmediateClock(RealClock):
    """A clock that skips every wait by jumping ahead; between waits, real time passes."""

    async def sleep_until(self, when: float) -> None:
        """Skip to the time `when` (epoch seconds)."""
        self.skip_to(when)
        await asyncio.sleep(0)

    def skip_to(self, when: float) -> None:
        """Skip to the time `when` (epoch seconds), if it lies ahead."""
        self._epoch += max(0.0, when - self.now())
        self._run_due()


class ManualClock(EmulatorClock):
    """A clock that moves only when `advance` is called."""

    def __init__(self, start: float | None = None) -> None:
        super().__init__()
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the current time, in epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time ahead and run everything that is due by then.

        Args:
            seconds: How far, 0 or more.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time cannot go back by {-seconds} s")
        with self._lock:
            self._now += seconds
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._run_due)

    def _next_due_s(self) -> float | None:
        return None


def clock_for(mode: TimeMode) -> EmulatorClock:
    """Return a new clock for a time mode.

    Raises:
        ValueError: The mode is not one of immediate, manual, real.
    """
    match mode:
        case "immediate":
            return ImmediateClock()
        case "manual":
            return ManualClock()
        case "real":
            return RealClock()
    raise ValueError(f"time must be immediate, manual or real, not {mode!r}")
