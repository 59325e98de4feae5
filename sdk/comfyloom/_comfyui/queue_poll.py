"""One read of the queue shared by all runs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from comfyloom._core.clock import Clock
from comfyloom.errors import TransportError

QueueIds: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of the running and of the pending prompts, in their order."""

_NEVER: Final = float("-inf")


class SharedQueuePoll:
    """Shares each read of a server's queue, or its error, between runs.

    Args:
        read: Reads the queue, with a timeout in seconds.
    """

    def __init__(self, read: Callable[[float], QueueIds], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = _NEVER
        self._found: QueueIds | Exception = ((), ())

    def since(self, moment: float, timeout_s: float) -> QueueIds:
        """Return the queue as read after a moment of the clock.

        Args:
            moment: The moment.
            timeout_s: How long to wait for an answer, also to another run's request.

        Raises:
            TransportError, ApiError: The server does not answer.
        """
        if not self._lock.acquire(timeout=timeout_s):
            raise TransportError("ComfyUI: GET /queue: no answer in time")
        try:
            if self._begun <= moment:
                self._begun = self._clock.monotonic()
                try:
                    self._found = self._read(timeout_s)
                except Exception as error:  # noqa: BLE001 - raised below, for each waiting run
                    self._found = error
            found = self._found
        finally:
            self._lock.release()
        if isinstance(found, Exception):
            raise copy.copy(found)  # each thread needs its own traceback
        return found
