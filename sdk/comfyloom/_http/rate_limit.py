"""Limiting the rate of requests to a server."""

from __future__ import annotations

import threading

import attrs

from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.forks import renew_after_fork


@attrs.define(eq=False)
class RateLimiter:
    """Token bucket: limits the rate of requests, with bursts; shared by all threads.

    Args:
        per_s: Average requests per second, above 0.
        burst: Requests that may be sent at once after a pause, at least 1.
    """

    per_s: float = 1.0
    burst: int = 1
    clock: Clock = SYSTEM_CLOCK
    # When the next request would be due at exactly this rate.
    _due: float = attrs.field(default=0.0, init=False, repr=False)
    _paused_until: float = attrs.field(default=0.0, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        renew_after_fork(self.after_fork)

    def after_fork(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()

    def take(self, *, urgent: bool = False, reserve: int = 0) -> None:
        """Wait until a request may be sent.

        Args:
            urgent: Whether it counts, but does not wait.
            reserve: How many requests beyond the burst do not wait.
        """
        with self._lock:
            now = self.clock.monotonic()
            due = max(self._due, now)
            self._due = due + 1.0 / self.per_s
            early_s = (self.burst + reserve - 1) / self.per_s
            wait_s = max(due - early_s, self._paused_until) - now
        if wait_s > 0 and not urgent:
            self.clock.sleep(wait_s)

    def pause(self, seconds: float) -> None:
        """Delay every request: the server asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, self.clock.monotonic() + seconds)
