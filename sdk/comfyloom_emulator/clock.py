"""Time inside the emulator: real, jumping ahead, or moved by hand."""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Literal

TimeMode = Literal["immediate", "manual", "real"]

_DAY_S = 86_400.0


class Clock:
    """Tells the emulator's time and wakes whoever waits for it.

    Only the emulator's event loop may wait; `now` may be read from any thread.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._handle: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """The current time, in epoch seconds."""
        raise NotImplementedError

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let waits run on this event loop."""
        self._loop = loop

    def detach(self) -> None:
        """Forget the event loop and all alarms."""
        self._cancel_timer()
        self._alarms.clear()
        self._loop = None

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back when the time `when` (epoch seconds) has come, without hurrying it."""
        heapq.heappush(self._alarms, (when, next(self._order), callback))
        self._ring()

    async def sleep_until(self, when: float) -> None:
        """Wait for the time `when` (epoch seconds)."""
        if when <= self.now():
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_at(when, lambda: _wake(woken))
        await woken

    def settle(self, when: float) -> None:
        """Skip to `when` if this clock skips waits; else do nothing."""

    def _ring(self) -> None:
        while self._alarms and self._alarms[0][0] <= self.now():
            heapq.heappop(self._alarms)[2]()
        self._set_timer()

    def _set_timer(self) -> None:
        self._cancel_timer()
        delay_s = self._next_tick_s()
        if delay_s is not None and self._loop is not None:
            self._handle = self._loop.call_later(delay_s, self._ring)

    def _next_tick_s(self) -> float | None:
        """Real seconds until the next alarm may be due; None if time does not pass by itself."""
        if not self._alarms:
            return None
        return min(max(self._alarms[0][0] - self.now(), 0.0), _DAY_S)

    def _cancel_timer(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


class RealClock(Clock):
    """The wall clock."""

    def __init__(self) -> None:
        super().__init__()
        # Monotonic underneath, so that a corrected system clock does not bend a test's bill.
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        """The current time, in epoch seconds."""
        return self._epoch + time.monotonic()


class ImmediateClock(RealClock):
    """A clock on which every wait ends at once, by jumping ahead; else real time passes."""

    async def sleep_until(self, when: float) -> None:
        """Skip to the time `when` (epoch seconds)."""
        self.settle(when)
        await asyncio.sleep(0)

    def settle(self, when: float) -> None:
        """Skip to the time `when` (epoch seconds), if that is ahead."""
        self._epoch += max(0.0, when - self.now())
        self._ring()


class ManualClock(Clock):
    """A clock that stands still until `advance` is called."""

    def __init__(self, start: float | None = None) -> None:
        super().__init__()
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()

    def now(self) -> float:
        """The current time, in epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time ahead and wake everything that is due by then.

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
            self._loop.call_soon_threadsafe(self._ring)

    def _next_tick_s(self) -> float | None:
        return None


def clock_for(mode: TimeMode) -> Clock:
    """A new clock for a time mode.

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
