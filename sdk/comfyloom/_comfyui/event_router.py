"""One event socket for all runs of a client on one server.

A server sends the events of a prompt to the client id that posted it, and knows one socket for
each id. So the runs of a client share the id and the socket, and the events are told apart by the
prompt id that they carry.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.timeouts import PATIENCE
from comfyloom._comfyui.websocket import EventSocket, Link, SocketMessage
from comfyloom._core.json import number
from comfyloom._core.redact import log

Listener: TypeAlias = Callable[[SocketMessage], object]

# What follows without a prompt id, such as an old preview, is about the run that these name.
_NAMING: Final = frozenset({"execution_start", "executing", "progress"})


@attrs.define(eq=False)
class _Subscription:
    """Somebody who listens to a run."""

    prompt_id: str
    hear: Listener


class EventRouter:
    """Brings each run its own events, over one socket that is opened when the first one listens.

    Args:
        url_for: Gives the WebSocket URL for a client id.
        silence_s: As for `EventSocket`.
    """

    def __init__(
        self, url_for: Callable[[str], str], *, silence_s: float = PATIENCE.ping_s
    ) -> None:
        self.client_id = _new_id()
        self.max_upload_bytes: int | None = None
        """The largest request that the server said it takes; None before it said so."""
        self._url_for = url_for
        self._silence_s = silence_s
        self._ears: dict[str, _Subscription] = {}
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
        ear = _Subscription(prompt_id, listener)
        with self._lock:
            self._ears[prompt_id] = ear
        try:
            self._open()
            yield
        finally:
            with self._lock:
                if self._ears.get(ear.prompt_id) is ear:
                    del self._ears[ear.prompt_id]

    def rename(self, prompt_id: str, new_id: str) -> None:
        """Listen to another run instead: the server gave the prompt an id of its own."""
        with self._lock:
            ear = self._ears.pop(prompt_id)
            ear.prompt_id = new_id
            self._ears[new_id] = ear

    def doubt(self) -> None:
        """Connect anew: the socket is up, but tells nothing of a run that runs or has ended.

        A server forgets a client whose earlier socket is closed late, and tells it no more; nothing
        but this brings its events back.
        """
        log.info("the event socket tells nothing; it is connected anew")
        if (socket := self._socket) is not None:
            socket.renew()

    def note_features(self, features: Mapping[str, Any]) -> None:
        """Note what the server says that it can."""
        limit = number(features.get("max_upload_size"))
        self.max_upload_bytes = int(limit) if limit else None

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
                if len(self._ears) == 1:
                    # Nobody waits for events of the old id, and whatever is wrong with it is past.
                    self.client_id = _new_id()
                self._socket = socket = EventSocket(
                    self._url_for(self.client_id),
                    self._deliver,
                    is_wanted=self._is_wanted,
                    silence_s=self._silence_s,
                )
            socket.open()

    def _is_wanted(self, socket: EventSocket) -> bool:
        """Whether a lost socket is to be connected again: not while nothing runs."""
        with self._lock:
            if self._socket is not socket:
                return False
            if not self._ears:
                self._socket = None
            return bool(self._ears)

    def _deliver(self, delivery: SocketMessage) -> None:
        if isinstance(delivery, ServerEvent):
            self._note(delivery)
        else:
            self._current = None
        for ear in self._concerned(delivery):
            ear.hear(delivery)

    def _concerned(self, delivery: SocketMessage) -> list[_Subscription]:
        with self._lock:
            if isinstance(delivery, Link) or delivery.type == "status":
                return list(self._ears.values())
            if delivery.prompt_id is not None:
                ear = self._ears.get(delivery.prompt_id)
            else:
                ear = self._ears.get(self._current or "")
                if ear is None and len(self._ears) == 1:
                    return list(self._ears.values())
            return [] if ear is None else [ear]

    def _note(self, event: ServerEvent) -> None:
        if event.type == "feature_flags":
            self.note_features(event.data)
        elif event.prompt_id is not None and event.type in _NAMING:
            ended = event.type == "executing" and event.node is None
            self._current = None if ended else event.prompt_id


def _new_id() -> str:
    return uuid.uuid4().hex
