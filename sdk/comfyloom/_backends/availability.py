"""Whether a run could begin now, asked cheaply and often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from comfyloom._core.clock import Clock
from comfyloom._core.forks import renew_after_fork
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import Timeouts
from comfyloom._http.retry import NO_RETRY
from comfyloom.errors import ApiError, ComfyloomError, TransportError

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI


@attrs.frozen(kw_only=True)
class Availability:
    """Whether a run could begin, and what that would take.

    Attributes:
        available: Whether a run would find a server, or a machine could be launched for it.
        why: What would be used, or why there is nothing; human-readable.
        wait_s: Seconds until a run could begin, 0 if a server answers; estimated for a machine that
            has to start. None if nothing is available.
        usd_per_hour: What the machine costs while it is on; 0 for a server of your own, None if its
            price is not known or nothing is available.
    """

    available: bool
    why: str
    wait_s: float | None = None
    usd_per_hour: Decimal | None = None

    @classmethod
    def nothing(cls, why: str) -> Availability:
        """Return that nothing is available, and why."""
        return cls(available=False, why=why)


@attrs.define(eq=False)
class AvailabilityCache:
    """Asks in a thread of its own, so that nobody waits for long; answers are kept for a moment.

    Args:
        look: Finds out; it may raise a `ComfyloomError`, and take long.
    """

    look: Callable[[], Availability]
    timeouts: Timeouts
    clock: Clock
    _known: Availability | None = attrs.field(default=None, init=False)
    _known_at: float = attrs.field(default=0.0, init=False)
    _asking: threading.Event | None = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        renew_after_fork(self.after_fork)

    def after_fork(self) -> None:
        """Forget what the parent knew."""
        self._known, self._asking, self._lock = None, None, threading.Lock()

    def get(self) -> Availability:
        """Return what is known, at most `Timeouts.availability_s` old, or the answer now.

        It returns within `Timeouts.probe_s`; without an answer by then, nothing is available.
        """
        with self._lock:
            is_young = self.clock.monotonic() - self._known_at <= self.timeouts.availability_s
            if self._known is not None and is_young:
                return self._known
            asking = self._asking
            if asking is None:
                self._asking = asking = threading.Event()
                daemon_thread(lambda: self._ask(asking), "availability").start()
        if asking.wait(self.timeouts.probe_s) and self._known is not None:
            return self._known
        return Availability.nothing(f"no answer within {self.timeouts.probe_s:g} s")

    def _ask(self, asking: threading.Event) -> None:
        try:
            self._known = self.look()
        except ComfyloomError as error:
            self._known = Availability.nothing(str(error))
        finally:
            self._known_at = self.clock.monotonic()
            self._asking = None
            asking.set()


def request_s(timeouts: Timeouts) -> float:
    """Return the seconds that connecting, and the answer, may each take.

    Both together are a little less than the caller waits, so that it hears the reason.
    """
    return 0.4 * timeouts.probe_s


def why_silent(comfyui: ComfyUI) -> str:
    """Return why a ComfyUI does not answer in time, "" if it does."""
    try:
        comfyui.system_stats(backoff=NO_RETRY, timeout_s=request_s(comfyui.timeouts))
    except (TransportError, ApiError) as error:
        return str(error)
    return ""
