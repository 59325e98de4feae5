"""One read of the queue shared by all runs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from comfyloom._core.clock import Clock
from comfyloom._core.forks import renew_after_fork
from comfyloom.errors import TransportError

QueueIds: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of the running and of the pending prompts, in their order."""

_NEVER: Final = float("-inf")
_SMALL: Final = 1 << 18


class QueueSize:
    """How large an answer about the queue will be: it has the graphs of all its prompts.

    Attributes:
        last_bytes: The size of the last answer.
    """

    def __init__(self) -> None:
        self.last_bytes = 0
        self._graphs: dict[str, int] = {}

    @property
    def expected_bytes(self) -> int:
        """The size of the last answer, or of our own graphs if that is larger."""
        return max(self.last_bytes, sum(tuple(self._graphs.values())))

    @property
    def graphs(self) -> int:
        """How many graphs of ours may be in the queue."""
        return len(self._graphs)

    @property
    def is_large(self) -> bool:
        """Whether the answer is too large to be read as often as a small one."""
        return self.expected_bytes > _SMALL

    def posted(self, prompt_id: str, size: int) -> None:
        """Note a graph that may be in the queue from now on."""
        self._graphs[prompt_id] = size

    def ended(self, prompt_id: str) -> None:
        """Note that it no longer is."""
        self._graphs.pop(prompt_id, None)


class SharedQueuePoll:
    """Shares each read of a server's queue, or its error, between runs.

    Args:
        read: Reads the queue, with the arguments `timeout_s` and `is_over`.
    """

    def __init__(self, read: Callable[..., QueueIds], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self.after_fork()
        renew_after_fork(self.after_fork)

    def after_fork(self) -> None:
        """Begin anew."""
        self._lock = threading.Lock()
        self._begun = _NEVER
        self._found: QueueIds | Exception = ((), ())

    def since(self, moment: float, *, timeout_s: float, is_over: Callable[[], bool]) -> QueueIds:
        """Return the queue as read after a moment of the clock.

        Args:
            moment: The moment.
            timeout_s: How long to wait for an answer, also to another run's request.
            is_over: Whether to give the answer up, asked while it comes.

        Raises:
            TransportError, ApiError: The server does not answer.
        """
        if not self._lock.acquire(timeout=timeout_s):
            raise TransportError("ComfyUI: GET /queue: no answer in time")
        try:
            if self._begun <= moment:
                self._begun = self._clock.monotonic()
                try:
                    self._found = self._read(timeout_s=timeout_s, is_over=is_over)
                except Exception as error:  # noqa: BLE001 - raised below, for each waiting run
                    self._found = error
            found = self._found
        finally:
            self._lock.release()
        if isinstance(found, Exception):
            raise copy.copy(found)  # each thread needs its own traceback
        return found
