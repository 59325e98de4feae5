"""The lease of a machine: when it ends by itself, and how use extends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

import attrs

from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._http.retry import NO_RETRY
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import ApiError, TransportError

RENEW_SHARE: Final = 0.5


@attrs.define(eq=False)
class Lease:
    """The time after which the platform ends a machine by itself.

    The platform counts it from Ready, so the elapsed time is added to the wanted one.

    Args:
        seconds: How long it may run without use.
        longest_s: Its longest duration, from Ready.
        launched_at: When it was launched, by the monotonic clock; None if unknown.
        on_changed: Called with the machine after its lease was changed.
    """

    api: ServerApi
    server_id: str
    seconds: int
    longest_s: float
    launched_at: float | None = None
    on_changed: Callable[[Server], object] = lambda _: None
    ready_at: datetime | None = attrs.field(default=None, init=False)
    ends_at: float = attrs.field(default=0.0, init=False)
    _noted_at: tuple[float, float] | None = attrs.field(default=None, init=False, repr=False)
    _duration_s: int = attrs.field(default=0, init=False)
    _next_renewal: float = attrs.field(default=0.0, init=False)
    _is_reported: bool = attrs.field(default=False, init=False)
    _renewing: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def note(self, server: Server) -> None:
        """Adopt the platform's description of the machine; missing fields are kept."""
        self._noted_at = (self.api.clock.monotonic(), self.api.clock.time())
        self.ready_at = server.service_ready_at or self.ready_at
        self._duration_s = int(server.estimated_duration or self._duration_s)
        if (ends := server.estimated_stopping_at) is not None:
            self.ends_at = ends.timestamp()
        else:
            begun = self.ready_at.timestamp() if self.ready_at else self.api.now()
            self.ends_at = begun + (self._duration_s or self.seconds)

    @property
    def was_noted(self) -> bool:
        """Whether the platform has described the machine."""
        return self._noted_at is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds since Ready by the platform's own clock, which bills them."""
        if self.ready_at is None:
            return 0.0
        seconds = max(0.0, self.api.now() - self.ready_at.timestamp())
        if self.launched_at is None or self.api.tells_time:
            return seconds
        # By our own clock, which may be wrong: it cannot have been ready before its launch.
        return min(seconds, self.api.clock.monotonic() - self.launched_at)

    @property
    def left_s(self) -> float:
        """Seconds until the machine ends by itself."""
        return max(0.0, self.ends_at - self.api.now())

    def settle(self) -> None:
        """Set the lease as configured, even if that shortens it."""
        wanted = int(min(self.elapsed_s + self.seconds, self.longest_s))
        if wanted != self._duration_s:
            self._set(wanted)

    def touch(self) -> None:
        """Renew the lease when at most `RENEW_SHARE` of it is left; cheap, to be called often.

        A thread sends the request: a slow platform must not delay a run.
        """
        now = self.api.clock.monotonic()
        if now < self._next_renewal or not self.ends_at:
            return
        self._next_renewal = now + self.api.timeouts.lease_retry_s
        if self.left_s <= RENEW_SHARE * self.seconds or self._was_asleep():
            daemon_thread(self._renew_once, "lease").start()

    def _was_asleep(self) -> bool:
        """Return whether the computer slept, which stops the monotonic clock."""
        if self._noted_at is None:
            return False
        monotonic, time = self._noted_at
        clock = self.api.clock
        return clock.time() - time - (clock.monotonic() - monotonic) > self.api.timeouts.sleep_gap_s

    def _renew_once(self) -> None:
        """Renew, unless a renewal is under way: a slow platform must not be flooded."""
        if self._renewing.acquire(blocking=False):
            try:
                self.renew()
            finally:
                self._renewing.release()

    def renew(self) -> None:
        """Extend the lease to its full length from now, up to `longest_s`; never shorten it.

        The platform is asked first: another process may have extended it.
        """
        try:
            self.note(self.api.get_server(self.server_id, backoff=NO_RETRY))
        except (TransportError, ApiError) as error:
            log.error("the lease of machine %s was not renewed: %s", self.server_id, error)
            return
        wanted = int(min(self.elapsed_s + self.seconds, self.longest_s))
        if wanted > self._duration_s:
            self._set(wanted)
        elif not self._is_reported and wanted >= int(self.longest_s):
            self._is_reported = True
            log.warning(
                "machine %s ends in %.0f s: it may not run for longer than %.0f s",
                self.server_id,
                self.left_s,
                self.longest_s,
            )

    def _set(self, seconds: int) -> None:
        try:
            server = self.api.set_duration(self.server_id, seconds, backoff=NO_RETRY)
        except (TransportError, ApiError) as error:
            log.error("the lease of machine %s was not renewed: %s", self.server_id, error)
            return
        self._duration_s = seconds  # unless the answer says otherwise
        self.note(server)
        self.on_changed(server)
