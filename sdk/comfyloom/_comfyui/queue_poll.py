"""One look at the queue for all who wait for it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from comfyloom._core.clock import Clock
from comfyloom.errors import TransportError

QueueIds: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of the prompts that run, and of those that wait, in the order of their turn."""

_NEVER: Final = float("-inf")


class SharedQueuePoll:
    """Shares each look at a server's queue, or its failure, between the runs that want one.

    Args:
        look: Asks the server, which may be silent for so many seconds.
        clock: The time.
    """

    def __init__(self, look: Callable[[float], QueueIds], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = _NEVER
        self._found: QueueIds | Exception = ((), ())

    def since(self, moment: float, timeout_s: float) -> QueueIds:
        """Return what the queue held at some time after a moment of the clock.

        Args:
            moment: When.
            timeout_s: How long to wait for an answer, also for one that another run asked for.

        Raises:
            TransportError, ApiError: The server does not tell.
        """
        if not self._lock.acquire(timeout=timeout_s):
            raise TransportError("ComfyUI: GET /queue: no answer in time")
        try:
            if self._begun <= moment:
                self._begun = self._clock.monotonic()
                self._found = self._asked(timeout_s)
            found = self._found
        finally:
            self._lock.release()
        if isinstance(found, Exception):
            raise copy.copy(found)  # each has a traceback of its own
        return found

    def _asked(self, timeout_s: float) -> QueueIds | Exception:
        try:
            return self._look(timeout_s)
        except Exception as error:  # noqa: BLE001 - it is raised for each who waited
            return error
