"""One start of a server that several callers wait for, each with its own way out."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

import attrs

from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS
from comfyloom.progress import Progress, ProgressCallback

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_News: TypeAlias = "queue.SimpleQueue[Progress | None]"


class Startup(Protocol[T_co]):
    """What a shared start does."""

    def run(self, report: ProgressCallback) -> T_co:
        """Start it, in a thread of its own, and return what was started."""
        ...

    def abandon(self) -> None:
        """Undo it, from another thread: nobody waits for it any more."""
        ...


@attrs.define(eq=False)
class SharedStart(Generic[T]):
    """Makes callers that need the same server wait for one start.

    A caller may leave, by an exception in its `checkpoint`. When the last one does, the start is
    abandoned; the next caller begins another.

    Args:
        turn_s: Between two looks, of a caller that waits, whether it is still to wait.
    """

    turn_s: float = DEFAULT_TIMEOUTS.turn_s
    _current: _Start[T] | None = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def get(
        self,
        begin: Callable[[], Startup[T]],
        report: ProgressCallback,
        checkpoint: Callable[[], object],
    ) -> T:
        """Wait for the start under way, or for one that `begin` gives, and return its result.

        Args:
            begin: Makes a start, if none is under way.
            report: Called in this thread with its progress.
            checkpoint: Called several times a second while waiting; it may raise.

        Raises:
            BaseException: The error of the start, or of `checkpoint`.
        """
        news: _News = queue.SimpleQueue()
        joined: _Start[T] | None = None
        try:
            joined = self._join(begin, news)
            while (progress := self._next(news, checkpoint)) is not None:
                report(progress)
        except BaseException:
            if joined is not None:
                joined.leave(news)
            raise
        return joined.result()

    def _next(self, news: _News, checkpoint: Callable[[], object]) -> Progress | None:
        while True:
            checkpoint()
            try:
                return news.get(timeout=self.turn_s)
            except queue.Empty:
                continue

    def _join(self, begin: Callable[[], Startup[T]], news: _News) -> _Start[T]:
        with self._lock:
            before = self._current
            if before is not None and before.join(news):
                return before
            self._current = started = _Start(begin(), before)
            started.join(news)
            started.thread.start()
            return started


@attrs.define(eq=False)
class _Start(Generic[T]):
    """One start, and who waits for it."""

    startup: Startup[T]
    # Its machine may still be stopping, and counts for a limit until it has.
    before: _Start[T] | None
    thread: threading.Thread = attrs.field(init=False)
    _value: T | None = attrs.field(default=None, init=False)
    _error: BaseException | None = attrs.field(default=None, init=False)
    _waiting: list[_News] = attrs.field(factory=list[_News], init=False)
    _latest: Progress | None = attrs.field(default=None, init=False)
    _is_over: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self.thread = daemon_thread(self._work, "start")

    def join(self, news: _News) -> bool:
        """Let somebody wait for it; return False if it is over."""
        with self._lock:
            if self._is_over:
                return False
            if self._latest is not None:
                news.put(self._latest)
            self._waiting.append(news)
            return True

    def leave(self, news: _News) -> None:
        """Stop waiting; the last one abandons the start."""
        with self._lock:
            if self._is_over:
                return
            self._waiting.remove(news)
            self._is_over = not self._waiting
        if self._is_over:
            self.startup.abandon()

    def result(self) -> T:
        """Return what was started, once it is over."""
        if self._error is not None:
            raise copy.copy(self._error)  # each thread needs its own traceback
        return self._value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def _work(self) -> None:
        try:
            if self.before is not None:
                self.before.thread.join()
                self.before = None
            self._value = self.startup.run(self._say)
        except BaseException as error:  # noqa: BLE001 - all that wait for it raise it
            self._error = error
            log.debug("a start failed: %s", error)
        with self._lock:
            self._is_over = True
            for news in self._waiting:
                news.put(None)

    def _say(self, progress: Progress) -> None:
        with self._lock:
            self._latest = progress
            for news in self._waiting:
                news.put(progress)
