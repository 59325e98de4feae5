"""Detecting that a running run sends no events."""

from __future__ import annotations

import attrs

from comfyloom._core.timeouts import PollIntervals


@attrs.define
class SilenceWatch:
    """Measures how long a running run has been silent, and decides what to do about it.

    A server forgets a client whose earlier socket is closed late, and sends it nothing more: then
    only a new connection brings the events back.

    Args:
        was_connected: Whether the event socket was connected when the run was submitted.
    """

    intervals: PollIntervals
    was_connected: bool
    _heard: float | None = attrs.field(default=None, init=False)
    _has_events: bool = attrs.field(default=False, init=False)
    _reported_s: float = attrs.field(default=0.0, init=False)

    @property
    def never_heard(self) -> bool:
        """Whether no event came although the socket was connected all the time."""
        return self.was_connected and not self._has_events

    def event_arrived(self, now: float) -> None:
        """Note an event of the run."""
        self._heard, self._has_events, self._reported_s = now, True, 0.0

    def run_started(self, now: float) -> None:
        """Note that the queue shows the run as running."""
        self._heard = now

    def socket_lost(self) -> None:
        """Note that events may have been missed: silence proves nothing about the socket."""
        self.was_connected = False

    def seconds(self, now: float) -> float:
        """Return how long the run has been silent, 0 before it runs."""
        return 0.0 if self._heard is None else max(0.0, now - self._heard)

    def should_reconnect(self, silent_s: float) -> bool:
        """Return, once, whether the socket is suspect: every run starts with an event."""
        is_suspect = silent_s >= self.intervals.stopped_s and self.never_heard
        if is_suspect:
            self.was_connected = False
        return is_suspect

    def should_report(self, silent_s: float) -> bool:
        """Return whether to report the silence: after `silent_s`, then whenever it has doubled."""
        is_due = silent_s >= max(self.intervals.silent_s, 2 * self._reported_s)
        if is_due:
            self._reported_s = silent_s
        return is_due
