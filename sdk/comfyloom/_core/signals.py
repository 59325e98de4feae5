"""Deferring signals while work must not be interrupted: launching and stopping."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Final, Generic, TypeVar

import attrs

from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread

T = TypeVar("T")

DEFERRED: Final = 2
"""Signals deferred (with a notice) before the next one aborts."""


@attrs.define
class _Outcome(Generic[T]):
    """The value or error of an action."""

    value: T | None = None
    error: BaseException | None = None
    done: threading.Event = attrs.field(factory=threading.Event)

    def run(self, action: Callable[[], T]) -> None:
        try:
            self.value = action()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.error = error
        finally:
            self.done.set()


def defer_signals(action: Callable[[], T], *, waiting: Callable[[], object]) -> T:
    """Run `action` to its end, deferring SIGINT, SIGTERM and SIGHUP until then.

    In the main thread, where signals arrive, the action runs in its own thread. In other threads
    signals cannot interrupt it.

    Args:
        action: What must not be interrupted.
        waiting: Called at each deferred signal, to notify the user.

    Raises:
        BaseException: What the first signal raises, once the action is done or at once after more
            than `DEFERRED` signals; without a signal, what the action raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    outcome: _Outcome[T] = _Outcome()
    worker = daemon_thread(partial(outcome.run, action), "defer_signals")
    with _deferring(waiting) as signals:
        try:
            worker.start()
        except RuntimeError:  # Python 3.12 starts no thread while the interpreter exits
            outcome.run(action)
        outcome.done.wait()
    try:
        if outcome.error is not None:
            if signals:
                log.error("%s", outcome.error)
            raise outcome.error
        return outcome.value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
    finally:
        # Also after an error: the program must not continue as if it had not been interrupted.
        if signals:
            signal.raise_signal(signals[0])


@contextmanager
def _deferring(waiting: Callable[[], object]) -> Generator[list[int]]:
    """Collect signals instead of acting on them."""
    collected: list[int] = []
    before = {kind: signal.getsignal(kind) for kind in _available("SIGINT", "SIGTERM", "SIGHUP")}

    def collect(number: int, _: FrameType | None) -> None:
        collected.append(number)
        if len(collected) > DEFERRED:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        waiting()

    # A handler that is None was not installed from Python and could not be put back.
    mine = [kind for kind, old in before.items() if old not in (signal.SIG_IGN, None)]
    try:
        for kind in mine:
            signal.signal(kind, collect)
        yield collected
    finally:
        for kind in mine:
            signal.signal(kind, before[kind])


def _available(*names: str) -> list[signal.Signals]:
    """Return the signals of these names that the platform has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def exit_on_sigterm() -> Generator[None]:
    """Make SIGTERM and SIGHUP raise `SystemExit` inside the block, so `with` blocks are left.

    Only in the main thread, and only instead of the default action: custom handlers are kept.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for kind in _available("SIGTERM", "SIGHUP"):
        if signal.getsignal(kind) is signal.SIG_DFL:
            signal.signal(kind, _leave)
    block = object()
    _blocks.add(block)
    try:
        yield
    finally:
        _blocks.discard(block)
        # The last of several blocks restores the default. Another thread cannot: `_leave` does.
        if not _blocks and threading.current_thread() is threading.main_thread():
            for kind in _available("SIGTERM", "SIGHUP"):
                if signal.getsignal(kind) is _leave:
                    signal.signal(kind, signal.SIG_DFL)


_blocks: Final[set[object]] = set()
"""The blocks of `exit_on_sigterm` that are entered and not left."""


def _leave(number: int, _: FrameType | None) -> None:
    if _blocks:
        raise SystemExit(128 + number)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
