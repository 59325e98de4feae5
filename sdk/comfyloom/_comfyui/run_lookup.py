"""Asking a server where a run is, with as few bytes as its graphs allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.jobs_api import JobState
from comfyloom._core.timeouts import PollIntervals
from comfyloom._http.retry import NO_RETRY


@attrs.frozen
class Queued:
    """The run waits; `ahead` is the number of runs before it, None if the server does not say."""

    ahead: int | None


Sighting: TypeAlias = HistoryEntry | Queued | JobState | None
"""Where a run was seen: its history if it has ended, None if the server did not say."""


@attrs.frozen
class RunLookup:
    """Finds one run.

    Args:
        timeout_s: The longest silence of the server.
        is_over: Whether to give up an answer now, asked while it comes.
    """

    server: ComfyUI
    prompt_id: str
    timeout_s: float
    is_over: Callable[[], bool]

    @property
    def _limits(self) -> dict[str, Any]:
        return {"timeout_s": self.timeout_s, "is_over": self.is_over}

    def in_history(self) -> HistoryEntry | None:
        """Return the history of the run, None if it has not ended."""
        return self.server.history(self.prompt_id, backoff=NO_RETRY, **self._limits)

    def by_job(self) -> Sighting:
        """Look for the run without reading the whole queue."""
        # Before the job: that of an ended run has its graph, and history has it once more.
        if (entry := self.in_history()) is not None:
            return entry
        state = self.server.jobs.find(self.prompt_id, backoff=NO_RETRY, **self._limits)
        return Queued(None) if state is JobState.WAITING else state

    def in_queue(self, oldest: float) -> Sighting:
        """Look for the run in the queue.

        Args:
            oldest: When another run's reading of the queue is recent enough.
        """
        running, pending = self.server.queue_poll.since(oldest, **self._limits)
        if self.prompt_id in pending:
            return Queued(len(running) + pending.index(self.prompt_id))
        if self.prompt_id in running:
            return JobState.RUNNING
        # After the queue: else a run that ends in between would look lost.
        return self.in_history() or JobState.UNKNOWN

    def is_queue_empty(self) -> bool:
        """Return whether nothing waits or runs; a number tells it, without any graph."""
        return self.server.queue_remaining(backoff=NO_RETRY, **self._limits) == 0


def look_every_s(server: ComfyUI, intervals: PollIntervals) -> float:
    """Return how seldom to look where a run is: an answer has the graphs of all runs."""
    size = server.queue_size
    if not size.is_large:
        return 0.0
    if server.jobs.can_find is not False:
        # One small answer for each run, in place of one large one for all.
        return intervals.slow_s * max(1, size.graphs)
    return size.expected_bytes / intervals.queue_bytes_s
