"""One event socket for all runs of a client on one server.

A server sends the events of a prompt to the client id that posted it, and knows one socket for
each id. So the runs of a client share the id and the socket, and the events are told apart by the
prompt id that they carry.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeAlias

from comfyloom._json import mapping, number
from comfyloom.comfyui.events import ServerEvent
from comfyloom.comfyui.patience import PATIENCE
from comfyloom.comfyui.socket import Delivery, EventSocket, Link

Listener: TypeAlias = Callable[[Delivery], object]

# What follows without a prompt id, such as an old preview, is about the run that these name.
_NAMING: Final = frozenset({"execution_start", "executing", "progress"})


class Channel:
    """Brings each run its own events, over one socket that is opened when the first one listens.

    Args:
        url_for: Gives the WebSocket URL for a client id.
        silence_s: As for `EventSocket`.
    """

    def __init__(
        self, url_for: Callable[[str], str], *, silence_s: float = PATIENCE.ping_s
    ) -> None:
        self.client_id = uuid.uuid4().hex
        self.max_upload_bytes: int | None = None
        """The largest request that the server said it takes; None before it said so."""
        self._url_for = url_for
        self._silence_s = silence_s
        self._listeners: dict[str, Listener] = {}
        self._current: str | None = None
        self._socket: EventSocket | None = None
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    @property
    def is_up(self) -> bool:
        """Whether the socket is connected."""
        socket = self._socket
        return socket is not None and socket.is_up

    @contextmanager
    def listening(self, prompt_id: str, listener: Listener) -> Generator[None]:
        """Tell a function of the events of a run, and of the socket's losses, within the block.

        The socket is connected when the block begins, or could not be and is tried again.

        Args:
            prompt_id: The run; it has to be posted with `client_id`.
            listener: Called in the reader's thread, which it must not hold up.
        """
        with self._lock:
            self._listeners[prompt_id] = listener
        try:
            self._open()
            yield
        finally:
            with self._lock:
                for name in [each for each, told in self._listeners.items() if told == listener]:
                    del self._listeners[name]

    def rename(self, prompt_id: str, new_id: str) -> None:
        """Listen to another run instead: the server gave the prompt an id of its own."""
        with self._lock:
            self._listeners[new_id] = self._listeners.pop(prompt_id)

    def close(self) -> None:
        """Close the socket; a later listener opens another."""
        with self._lock:
            socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    def _open(self) -> None:
        with self._opening:
            with self._lock:
                if self._socket is not None:
                    return
                self._socket = socket = EventSocket(
                    self._url_for(self.client_id),
                    self._deliver,
                    is_wanted=self._is_wanted,
                    silence_s=self._silence_s,
                )
            socket.open()

    def _is_wanted(self) -> bool:
        """Whether a lost socket is to be connected again: not while nothing runs."""
        with self._lock:
            if not self._listeners:
                self._socket = None
            return bool(self._listeners)

    def _deliver(self, delivery: Delivery) -> None:
        if isinstance(delivery, ServerEvent):
            self._note(delivery)
        for listener in self._concerned(delivery):
            listener(delivery)

    def _concerned(self, delivery: Delivery) -> list[Listener]:
        with self._lock:
            if isinstance(delivery, Link) or delivery.type == "status":
                return list(self._listeners.values())
            name = delivery.prompt_id or self._current
            if name is None and len(self._listeners) == 1:
                return list(self._listeners.values())
            found = None if name is None else self._listeners.get(name)
            return [] if found is None else [found]

    def _note(self, event: ServerEvent) -> None:
        if event.type == "feature_flags":
            limit = number(mapping(event.data).get("max_upload_size"))
            self.max_upload_bytes = int(limit) if limit else None
        elif event.prompt_id is not None and event.type in _NAMING:
            ended = event.type == "executing" and event.node is None
            self._current = None if ended else event.prompt_id
