"""One look at the queue for all who wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from comfyloom._clock import Clock

QueueIds: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of the prompts that run, and of those that wait, in the order of their turn."""

_NEVER: Final = float("-inf")


class Lookout:
    """Shares each look at a server's queue, or its failure, between the runs that want one.

    Args:
        look: Asks the server.
        clock: The time.
    """

    def __init__(self, look: Callable[[], QueueIds], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = _NEVER
        self._found: QueueIds | Exception = ((), ())

    def since(self, moment: float) -> QueueIds:
        """Return what the queue held at some time after a moment of the clock.

        Raises:
            TransportError, ApiError: The server does not tell.
        """
        with self._lock:
            if self._begun <= moment:
                self._begun = self._clock.monotonic()
                self._found = self._asked()
            found = self._found
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def _asked(self) -> QueueIds | Exception:
        try:
            return self._look()
        except Exception as error:  # noqa: BLE001 - it is raised for each who waited
            return error
