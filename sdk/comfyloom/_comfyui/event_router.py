"""One event socket for all runs of a client on one server.

A server sends the events of a prompt to the client id that posted it, and keeps one socket per id.
So the runs of a client share id and socket, and events are routed by their prompt id.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.websocket import ConnectionLost, EventSocket, SocketMessage
from comfyloom._core.forks import renew_after_fork
from comfyloom._core.json import number
from comfyloom._core.redact import log
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.handshake import Handshake

Listener: TypeAlias = Callable[[SocketMessage], object]

# Frames without a prompt id, such as old previews, belong to the run that these last named.
_NAMING: Final = frozenset({"execution_start", "executing", "progress"})


@attrs.define(eq=False)
class _Subscription:
    """A listener of one run."""

    prompt_id: str
    listener: Listener


class EventRouter:
    """Routes events to their runs, over one socket that is opened when the first run listens.

    Args:
        handshake_for: Returns the WebSocket handshake of a client id.
    """

    def __init__(
        self,
        handshake_for: Callable[..., Handshake],
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self.after_fork()
        self.max_upload_bytes: int | None = None
        """The largest request that the server accepts, in bytes; None while unknown."""
        self._handshake_for = handshake_for
        self._timeouts = timeouts
        renew_after_fork(self.after_fork)

    def after_fork(self) -> None:
        """Begin anew, with an id of our own: a server knows one socket for each."""
        self.client_id = _new_id()
        self._subscriptions: dict[str, _Subscription] = {}
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
        """Pass the events of a run, and losses of the socket, to a function inside the block.

        Connecting has been tried once when the block begins, and is retried until it works.

        Args:
            prompt_id: The run; it must be posted with `client_id`.
            listener: Called in the reader's thread, which it must not block.
        """
        subscription = _Subscription(prompt_id, listener)
        with self._lock:
            self._subscriptions[prompt_id] = subscription
        try:
            self._open()
            yield
        finally:
            with self._lock:
                if self._subscriptions.get(subscription.prompt_id) is subscription:
                    del self._subscriptions[subscription.prompt_id]

    def rename(self, prompt_id: str, new_id: str) -> None:
        """Route by another prompt id: the server replaced ours."""
        with self._lock:
            subscription = self._subscriptions.pop(prompt_id)
            subscription.prompt_id = new_id
            self._subscriptions[new_id] = subscription

    def reconnect(self) -> None:
        """Reconnect a socket that is open but silent; see `SilenceWatch`."""
        log.info("reconnecting the event socket, which is silent")
        if (socket := self._socket) is not None:
            socket.renew()

    def note_features(self, features: Mapping[str, Any]) -> None:
        """Note the features that the server announces."""
        limit = number(features.get("max_upload_size"))
        self.max_upload_bytes = int(limit) if limit is not None and limit > 0 else None

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
                if len(self._subscriptions) == 1:
                    # No other run uses the old id; a new one avoids its stale socket.
                    self.client_id = _new_id()
                self._socket = socket = EventSocket(
                    partial(self._handshake_for, self.client_id),
                    self._deliver,
                    is_wanted=self._is_wanted,
                    timeouts=self._timeouts,
                )
            socket.open()

    def _is_wanted(self, socket: EventSocket) -> bool:
        """Whether to reconnect a lost socket: not while nothing runs."""
        with self._lock:
            if self._socket is not socket:
                return False
            if not self._subscriptions:
                self._socket = None
            return bool(self._subscriptions)

    def _deliver(self, message: SocketMessage) -> None:
        if isinstance(message, ServerEvent):
            self._note(message)
        else:
            self._current = None
        for subscription in self._subscriptions_for(message):
            subscription.listener(message)

    def _subscriptions_for(self, message: SocketMessage) -> list[_Subscription]:
        with self._lock:
            if isinstance(message, ConnectionLost) or message.type == "status":
                return list(self._subscriptions.values())
            if message.prompt_id is not None:
                subscription = self._subscriptions.get(message.prompt_id)
            else:
                subscription = self._subscriptions.get(self._current or "")
                if subscription is None and len(self._subscriptions) == 1:
                    return list(self._subscriptions.values())
            return [] if subscription is None else [subscription]

    def _note(self, event: ServerEvent) -> None:
        if event.type == "feature_flags":
            self.note_features(event.data)
        elif event.prompt_id is not None and event.type in _NAMING:
            ended = event.type == "executing" and event.node is None
            self._current = None if ended else event.prompt_id


def _new_id() -> str:
    return uuid.uuid4().hex
