"""How long an answer may take: none is waited for without a limit.

Time limits of sockets start again with every byte. So the bytes of every answer, its headers
included, pass through here: an answer that drips is given up, as is one that is no longer wanted.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, Final

import attrs

from comfyloom._core.clock import Clock

_LEAST_BYTES: Final = 1 << 10
_BUFFER: Final = 1 << 16
_FOREVER_S: Final = 3600.0


@attrs.define
class Pace:
    """The time limits of one answer; they begin when the request has been sent.

    Args:
        quiet_s: The longest silence. The headers must be complete in this time, and a body must
            bring at least 1 KiB in it.
        whole_s: The longest time from the headers to the end of the body.
        is_over: Whether to give it up now, asked whenever bytes have come.
    """

    clock: Clock
    quiet_s: float
    whole_s: float
    is_over: Callable[[], bool] = lambda: False
    _ends: float = attrs.field(init=False)
    _window: float = attrs.field(init=False)
    _received: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.begin(self.quiet_s)

    def begin(self, seconds: float) -> None:
        """Begin the headers, or the body."""
        now = self.clock.monotonic()
        self._ends, self._window, self._received = now + seconds, now + self.quiet_s, 0

    def note(self, size: int) -> None:
        """Note bytes that have come.

        Raises:
            TimeoutError: It takes too long, or is no longer wanted.
        """
        self._received += size
        now = self.clock.monotonic()
        is_window_over = now >= self._window
        is_dripping = is_window_over and self._received < _LEAST_BYTES
        if is_dripping or now >= self._ends or self.is_over():
            raise TimeoutError("the answer takes too long")
        if is_window_over:
            self._window, self._received = now + self.quiet_s, 0


class _PacedReader(io.RawIOBase):
    """The bytes of one answer, as they come."""

    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw = raw
        self._pace = pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        size = self._raw.readinto(buffer)
        if size:
            self._pace.note(size)
        return size

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class PacedResponse(HTTPResponse):
    """An answer whose bytes come at the pace of the request that this thread has sent."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._pace: Pace | None = getattr(_of_thread, "pace", None)
        if self._pace is not None:
            self._pace.begin(self._pace.quiet_s)
            reader: Any = self.fp
            self.fp = io.BufferedReader(_PacedReader(reader.detach(), self._pace), _BUFFER)

    def begin(self) -> None:
        """Read the headers."""
        super().begin()
        if self._pace is not None:
            self._pace.begin(self._pace.whole_s)


class _LimitedConnection:
    """A connection of urllib3 that must stand in time: TLS, too, could drip."""

    _twin: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        inner: Any = super()
        made: socket.socket = inner._new_conn()
        # TLS takes the socket over; its twin can still end the connection.
        self._twin = made.dup()
        return made

    def connect(self) -> None:
        pace: Pace | None = getattr(_of_thread, "pace", None)
        limit = threading.Timer(_FOREVER_S if pace is None else pace.quiet_s, self._give_up)
        limit.daemon = True
        limit.start()
        inner: Any = super()
        try:
            inner.connect()
        finally:
            limit.cancel()
            if self._twin is not None:
                self._twin.close()

    def _give_up(self) -> None:
        if self._twin is not None:
            with contextlib.suppress(OSError):
                self._twin.shutdown(socket.SHUT_RDWR)


@contextmanager
def pacing(pace: Pace) -> Generator[None]:
    """Give the answer to a request that is sent in this block its pace."""
    before = getattr(_of_thread, "pace", None)
    _of_thread.pace = pace
    try:
        yield
    finally:
        _of_thread.pace = before


def use_pace(manager: Any) -> Any:
    """Make the connections of a pool manager of urllib3 read at a pace, and return it."""
    paced: dict[str, type] = {}
    for scheme, pool in manager.pool_classes_by_scheme.items():
        response = {"response_class": PacedResponse}
        bases = (_LimitedConnection, pool.ConnectionCls)
        connection = type(pool.ConnectionCls.__name__, bases, response)
        paced[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": connection})
    manager.pool_classes_by_scheme = paced
    return manager


_of_thread: Final = threading.local()
