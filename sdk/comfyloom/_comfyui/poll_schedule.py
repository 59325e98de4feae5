"""When to poll a run: rarely while its events arrive, often while they do not."""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from comfyloom._core.timeouts import PollIntervals

NEVER: Final = float("-inf")
LATER: Final = float("inf")
LOST_AFTER: Final = 2
"""Polls that find a run neither in the queue nor in history before it is lost."""


class RunPhase(Enum):
    """What the server last reported of a run."""

    SUBMITTED = "submitted"
    WAITING = "waiting"
    RUNNING = "running"


class Poll(Enum):
    """What to ask the server."""

    NOTHING = "nothing"
    HISTORY = "history"
    QUEUE = "queue"


@attrs.define
class PollSchedule:
    """Decides when to poll a run next, and what to ask.

    Pure: it takes times of a monotonic clock, and uses neither server nor threads. The phase
    goes from SUBMITTED to WAITING or RUNNING by reading the queue, and to RUNNING by any event.
    """

    intervals: PollIntervals
    begun: float
    look_every_s: float = attrs.field(default=0.0, init=False)
    """How seldom to read the queue because its graphs are large, in seconds."""
    phase: RunPhase = attrs.field(default=RunPhase.SUBMITTED, init=False)
    _misses: int = attrs.field(default=0, init=False)
    _last_event: float = attrs.field(default=NEVER, init=False)
    _last_poll: float = attrs.field(init=False)
    _last_look: float = attrs.field(init=False)
    _ended: float = attrs.field(default=NEVER, init=False)
    _due: float = attrs.field(default=LATER, init=False)

    def __attrs_post_init__(self) -> None:
        self._last_poll = self.begun
        # A run without events at its first poll most likely waits: read the queue at once.
        self._last_look = self.begun - self.intervals.queue_s

    def event_arrived(self, now: float) -> None:
        """Note an event of the run."""
        self._last_event = now
        self.phase, self._misses = RunPhase.RUNNING, 0

    def run_ended(self, now: float) -> None:
        """Note the last event of the run: history is complete."""
        self._ended = self._due = now

    def run_ending(self, now: float) -> None:
        """Note an event shortly before the last one, in case that is missed."""
        self._ended = now
        self._due = min(self._due, now + self.intervals.quick_s)

    def socket_lost(self, now: float) -> None:
        """Note that events may be missed: poll at once, and often."""
        self._last_event, self._due = NEVER, now

    def queue_changed(self, now: float, *, is_cancelling: bool) -> None:
        """Note a change of the queue, the only event of a deleted prompt."""
        if is_cancelling or self.phase is RunPhase.WAITING:
            self._due = now

    def cancel_requested(self, now: float) -> None:
        """Check soon whether a cancel has worked."""
        self._last_look, self._due = NEVER, now + self.intervals.settle_s

    def next_poll(self, now: float, *, is_connected: bool) -> float:
        """Return the time of the next poll; `is_connected` is about the event socket."""
        every = self.intervals
        elapsed_s = now - self.begun
        if self.phase is RunPhase.WAITING and (is_connected or self.look_every_s):
            interval_s = every.slow_s
        elif elapsed_s < every.quick_for_s:
            interval_s = every.quick_s
        else:
            interval_s = max(every.slow_s, every.slowest_share * elapsed_s)
            interval_s = min(interval_s, every.slowest_s)
        quiet = max(self._last_poll + interval_s, self._last_event + every.stopped_s)
        # The run has ended by its events: history is about to have it.
        is_settling = self._due == LATER and now - self._ended < every.settle_for_s
        settling = self._last_poll + every.settle_s if is_settling else LATER
        return min(self._due, quiet, self._last_poll + every.flowing_s, settling)

    @property
    def looks_seldom(self) -> bool:
        """Whether the queue is too large to be read as often as it should be."""
        return self.look_every_s > self.intervals.queue_s

    def begin_poll(self, now: float, *, is_cancelling: bool) -> Poll:
        """Return what to ask in a poll that is due now."""
        self._due = LATER
        if self._may_look(now, is_cancelling=is_cancelling):
            return Poll.QUEUE
        if self.phase is not RunPhase.WAITING or self.looks_seldom:
            return Poll.HISTORY
        # A waiting run is not in history, and the queue was read a moment ago.
        self._due = self._last_look + self.intervals.quick_s
        return Poll.NOTHING

    def end_poll(self, now: float) -> None:
        """Note that a poll was answered, or not."""
        self._last_poll = now

    def begin_look(self, now: float) -> float:
        """Return the oldest usable time of a queue read."""
        # A recent read by another run will do, unless this run has used it already.
        oldest = max(self.begun, self._last_look, now - self.intervals.quick_s)
        self._last_look = now
        return oldest

    def found(self, phase: RunPhase) -> None:
        """Note the phase of a run that is in the queue."""
        self._misses = 0
        self.phase = phase

    def missed(self, now: float) -> bool:
        """Note that neither queue nor history has the run; return whether it is lost."""
        if self.phase is RunPhase.WAITING:
            self.phase = RunPhase.SUBMITTED
        self._misses += 1
        self._due = now + self.intervals.quick_s
        return self._misses >= LOST_AFTER

    def _may_look(self, now: float, *, is_cancelling: bool) -> bool:
        """Whether to read the queue: not while events show that the run is alive."""
        is_alive = now - self._last_event < self.intervals.stopped_s and not is_cancelling
        is_urgent = self._misses or self.phase is RunPhase.WAITING
        interval_s = self.intervals.quick_s if is_urgent else self.intervals.queue_s
        if self.look_every_s and not is_cancelling:
            since = max(self._last_look, self.begun)  # nor at once, as else
            return not is_alive and now - since >= max(interval_s, self.look_every_s)
        return not is_alive and now - self._last_look >= interval_s
