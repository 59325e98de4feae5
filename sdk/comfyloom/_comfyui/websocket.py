"""The event stream of one ComfyUI server: hints, never authoritative.

Its own thread reads the socket, because a stalled reader blocks every client of the server. The
thread connects, sends the feature flags as the first frame, pings a silent server (which itself
never pings), and reconnects after a loss. The old socket is always closed first: a socket that is
closed late ends the events of its successor.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket as socket_library
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from comfyloom._comfyui.events import ServerEvent, parse_frame
from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.handshake import Handshake
from comfyloom._http.retry import Backoff
from comfyloom.errors import TransportError

_FLAGS: Final = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
_FOREVER: Final = 10**9
_UNAUTHORIZED: Final = 401
_REFUSED: Final = frozenset({401, 403, 407})


class ConnectionLost:
    """The connection is lost: events may have been missed."""


SocketMessage: TypeAlias = ServerEvent | ConnectionLost


class EventSocket:
    """A WebSocket that passes events, and connection losses, to a function.

    Args:
        handshake: Returns the URL and what is shown there, anew for each connection; called with
            `challenge=True` after the server has refused one.
        deliver: Called in the reader's thread with each event and connection loss.
        is_wanted: Whether to reconnect after a loss; if not, the stream has ended.
        backoff: How long to wait before reconnecting; attempts are not limited.
        timeouts: Time limits of connecting, and of the server's silence.
    """

    def __init__(
        self,
        handshake: Callable[..., Handshake],
        deliver: Callable[[SocketMessage], object],
        *,
        is_wanted: Callable[[EventSocket], bool] = lambda _: True,
        backoff: Backoff | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._handshake = handshake
        self._is_wanted = is_wanted
        self._deliver = deliver
        self._backoff = backoff or Backoff(attempts=_FOREVER)
        self._timeouts = timeouts
        self._socket: Any = None
        self._was_reported = False
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._thread = daemon_thread(self._live, "events")

    @property
    def is_up(self) -> bool:
        """Whether it is connected."""
        return self._socket is not None

    def open(self) -> None:
        """Connect and start reading; failures are retried until `close`."""
        self._thread.start()
        # A run does not wait for longer: events are hints.
        self._opened.wait(self._timeouts.connect_s)

    def renew(self) -> None:
        """Drop the connection and make another, as after a loss."""
        if (socket := self._socket) is not None:
            _wake(socket)

    def close(self) -> None:
        """Close the connection and wait for the reader to end; a second call does nothing."""
        self._closing.set()
        if (socket := self._socket) is not None:
            _wake(socket)
        if self._thread.is_alive():
            self._thread.join(self._timeouts.connect_s)

    def _live(self) -> None:
        self._socket = self._connect()
        self._opened.set()
        delays = self._backoff.delays()
        was_reported = False
        while not self._closing.is_set():
            if self._socket is not None:
                delays = self._backoff.delays()
                self._read(self._socket)
                self._socket = None
                self._deliver(ConnectionLost())
            elif not was_reported:
                self._deliver(ConnectionLost())
            was_reported = True
            if not self._is_wanted(self):
                return
            if self._closing.wait(next(delays, self._backoff.longest_s)):
                return
            self._socket = self._connect()
        # `close` may have been called while it connected; an open socket that is not read would
        # block every client of the server.
        if self._socket is not None:
            self._socket.shutdown()

    def _connect(self) -> Any:
        """Return a connected socket, None if there is no connection."""
        websocket = _library()
        try:
            try:
                return self._connected(self._handshake())
            except websocket.WebSocketBadStatusException as error:
                if error.status_code != _UNAUTHORIZED:
                    raise
                return self._connected(self._handshake(challenge=True))
        except Exception as error:  # noqa: BLE001 - malformed answers raise various types
            is_news = not self._was_reported and _is_lasting(error)
            self._was_reported = self._was_reported or is_news
            report = log.warning if is_news else log.debug
            report("the event socket cannot connect: %s", _reason(error))
            return None

    def _connected(self, handshake: Handshake) -> Any:
        socket = _library().WebSocket(
            enable_multithread=True, skip_utf8_validation=True, sslopt=handshake.tls
        )
        # The library's own limit starts again with every byte.
        limit = threading.Timer(self._timeouts.connect_s, _wake, [socket])
        limit.daemon = True
        limit.start()
        try:
            # No redirects, as over HTTP: the URL may be a secret.
            socket.connect(
                handshake.url,
                timeout=self._timeouts.connect_s,
                header=handshake.headers,
                suppress_origin=True,
                redirect_limit=0,
                **handshake.options,
            )
            socket.send(_FLAGS)
        except BaseException:
            socket.shutdown()
            raise
        finally:
            limit.cancel()
        socket.settimeout(self._timeouts.ping_s)
        return socket

    def _read(self, socket: Any) -> None:
        """Deliver events until the connection ends, then close it."""
        websocket = _library()
        pinged = False
        try:
            while not self._closing.is_set():
                try:
                    frame = _receive(socket)
                except websocket.WebSocketTimeoutException:
                    if pinged:
                        return
                    socket.ping()
                    pinged = True
                    continue
                pinged = False
                if frame is None:
                    return
                if event := parse_frame(frame):
                    self._deliver(event)
        except (OSError, websocket.WebSocketException) as error:
            log.debug("the event socket broke: %s", type(error).__name__)
        finally:
            socket.shutdown()


def _receive(socket: Any) -> str | bytes | None:
    """Return the next frame, b"" for a control frame, None when the server closed."""
    websocket = _library()
    opcode, frame = socket.recv_data_frame(control_frame=True)
    if opcode == websocket.ABNF.OPCODE_CLOSE or frame is None:
        return None
    content: Any = frame.data
    if opcode == websocket.ABNF.OPCODE_TEXT:
        return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    return bytes(content) if opcode == websocket.ABNF.OPCODE_BINARY else b""


def _wake(socket: Any) -> None:
    """Wake the reader, which then closes the socket; a dead server cannot delay it."""
    raw: socket_library.socket | None = socket.sock
    if raw is not None:
        # Below TLS, and without a close frame: two threads that use one TLS connection at the same
        # time end the process.
        with contextlib.suppress(OSError):
            socket_library.socket.shutdown(raw, socket_library.SHUT_RDWR)


def _library() -> Any:
    # Imported when first used; it has no types of its own.
    import websocket

    return websocket


def _is_lasting(error: Exception) -> bool:
    """Return whether another attempt will hardly help, so that the user should know."""
    import ssl

    is_refused = getattr(error, "status_code", None) in _REFUSED
    lasting = (ssl.SSLError, TransportError, _library().WebSocketProxyException)
    return is_refused or isinstance(error, lasting)


def _reason(error: Exception) -> str:
    """Return why there is no connection, without what the server said: it may name itself."""
    if isinstance(error, TransportError):
        return str(error)
    if isinstance(error, _library().WebSocketProxyException):
        status = re.search(r"status: (\d{3})", str(error))
        return f"the proxy answered {status[1]}" if status else "the proxy cannot be used"
    status = getattr(error, "status_code", None)
    return type(error).__name__ if status is None else f"the server answered {status}"
