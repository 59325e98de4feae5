"""Work that must come to its end although somebody asks to leave: launching and stopping."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Final, Generic, TypeVar

import attrs

from comfyloom._core.threads import daemon_thread

T = TypeVar("T")

PATIENCE: Final = 2
"""So many signals are told that the work goes on; the next one abandons it."""


@attrs.define
class _Outcome(Generic[T]):
    """What an action came to."""

    value: T | None = None
    error: BaseException | None = None
    done: threading.Event = attrs.field(factory=threading.Event)

    def of(self, action: Callable[[], T]) -> None:
        """Run the action and keep its value or error."""
        try:
            self.value = action()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.error = error
        finally:
            self.done.set()


def defer_signals(action: Callable[[], T], *, waiting: Callable[[], object]) -> T:
    """Run `action` to its end, and only then let a signal interrupt the program.

    In the main thread, where signals arrive, the action runs in a thread of its own, and SIGINT,
    SIGTERM and SIGHUP are put off until it is done. Elsewhere nothing can interrupt it.

    Args:
        action: What must not be interrupted.
        waiting: Called at each signal that is put off, to tell people.

    Raises:
        BaseException: What the action raises, else what the first signal raises once it is done,
            or at once when patience has run out.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    outcome: _Outcome[T] = _Outcome()
    worker = daemon_thread(partial(outcome.of, action), "defer_signals")
    with _put_off(waiting) as signals:
        try:
            worker.start()
        except RuntimeError:  # Python 3.12 starts no thread while the interpreter exits
            outcome.of(action)
        outcome.done.wait()
    if outcome.error is not None:
        raise outcome.error
    if signals:
        signal.raise_signal(signals[0])
    return outcome.value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@contextmanager
def _put_off(waiting: Callable[[], object]) -> Generator[list[int]]:
    """Collect the signals that arrive, instead of acting on them."""
    collected: list[int] = []
    before = {kind: signal.getsignal(kind) for kind in _kinds("SIGINT", "SIGTERM", "SIGHUP")}

    def collect(number: int, _: FrameType | None) -> None:
        collected.append(number)
        if len(collected) > PATIENCE:
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


def _kinds(*names: str) -> list[signal.Signals]:
    """Return the signals of these names that the platform has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def exit_on_sigterm() -> Generator[None]:
    """Make SIGTERM and SIGHUP leave through all `with` blocks, while this one is open.

    Only in the main thread and only in place of the default action: a server that has handlers of
    its own keeps them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = _kinds("SIGTERM", "SIGHUP")
    mine = [kind for kind in kinds if signal.getsignal(kind) is signal.SIG_DFL]
    for kind in mine:
        signal.signal(kind, _leave)
    try:
        yield
    finally:
        for kind in mine:
            if signal.getsignal(kind) is _leave:
                signal.signal(kind, signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
