"""The event stream of one ComfyUI server: a hint, never the truth.

A thread of its own reads the socket, because a reader that stalls silences every client of the
server. It answers for the whole life of the stream: it connects, sends the feature flags as the
first frame of each connection, pings a silent server (which itself never pings), and connects
again after a loss, always after the old socket is closed: a socket that is closed late takes the
events of its successor with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any, Final, TypeAlias

from comfyloom._comfyui.events import ServerEvent, parse_frame
from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.retry import Backoff

_FLAGS: Final = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
_FOREVER: Final = 10**9


class ConnectionLost:
    """The connection is lost: events may have been missed."""


SocketMessage: TypeAlias = ServerEvent | ConnectionLost


class EventSocket:
    """A WebSocket that delivers its events, and its losses, to one function.

    Args:
        url: The WebSocket URL, client id included.
        deliver: Called in the reader's thread with each event, and when the link is down.
        is_wanted: Whether this stream is to connect again after a loss; if not, it has ended.
        backoff: How long to wait before connecting again; attempts are not limited.
        timeouts: How long to wait for a connection, and how long the server may be silent.
    """

    def __init__(
        self,
        url: str,
        deliver: Callable[[SocketMessage], object],
        *,
        is_wanted: Callable[[EventSocket], bool] = lambda _: True,
        backoff: Backoff | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._url = url
        self._is_wanted = is_wanted
        self._deliver = deliver
        self._backoff = backoff or Backoff(attempts=_FOREVER)
        self._timeouts = timeouts
        self._socket: Any = None
        self._closing = threading.Event()
        self._thread = daemon_thread(self._live, "events")

    @property
    def is_up(self) -> bool:
        """Whether it is connected."""
        return self._socket is not None

    def open(self) -> None:
        """Connect and start to deliver; what fails is tried again until `close`."""
        self._socket = self._connect()
        self._thread.start()

    def renew(self) -> None:
        """Give the connection up and make another, as after a loss."""
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
        # `close` may have come while it connected; an open socket that nobody reads would
        # silence every client of the server.
        if self._socket is not None:
            self._socket.shutdown()

    def _connect(self) -> Any:
        websocket = _library()
        socket = websocket.WebSocket(
            enable_multithread=True, skip_utf8_validation=True, sslopt=_tls_options()
        )
        try:
            # A redirect is refused, as over HTTP: the URL may be a secret.
            socket.connect(
                self._url,
                timeout=self._timeouts.connect_s,
                suppress_origin=True,
                redirect_limit=0,
            )
            socket.send(_FLAGS)
        except Exception as error:  # noqa: BLE001 - what a strange answer makes it raise varies
            report = log.warning if _is_about_tls(error) else log.debug
            report("the event socket does not connect: %s", type(error).__name__)
            socket.shutdown()
            return None
        socket.settimeout(self._timeouts.ping_s)
        return socket

    def _read(self, socket: Any) -> None:
        """Deliver events until the connection ends, then close it for good."""
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
    """Return the next frame, b"" for one without content of ours, None when the server closed."""
    websocket = _library()
    opcode, frame = socket.recv_data_frame(control_frame=True)
    if opcode == websocket.ABNF.OPCODE_CLOSE or frame is None:
        return None
    content: Any = frame.data
    if opcode == websocket.ABNF.OPCODE_TEXT:
        return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    return bytes(content) if opcode == websocket.ABNF.OPCODE_BINARY else b""


def _wake(socket: Any) -> None:
    """Say goodbye and wake the reader, which then closes; no dead server can delay this."""
    # Taken first: after a goodbye the library takes the connection for gone, and wakes nobody.
    raw = socket.sock
    try:
        socket.send_close()
    except Exception as error:  # noqa: BLE001 - the reader may have closed it at the same moment
        log.debug("closing the event socket: %s", type(error).__name__)
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.shutdown(SHUT_RDWR)


def _is_about_tls(error: Exception) -> bool:
    import ssl

    return isinstance(error, ssl.SSLError)


def _library() -> Any:
    # Imported when first used; it has no types of its own.
    import websocket

    return websocket


def _tls_options() -> dict[str, str]:
    """Return the certificate authorities that the HTTP side trusts."""
    from certifi import where

    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((os.environ[name] for name in names if os.environ.get(name)), where())
    return {"ca_cert_path" if Path(bundle).is_dir() else "ca_certs": bundle}
