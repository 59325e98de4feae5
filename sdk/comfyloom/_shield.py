"""Work that must come to its end although somebody asks to leave: launching and stopping."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Generic, TypeVar

import attrs

T = TypeVar("T")

PATIENCE: Final = 2
"""So many signals are told that the work goes on; the next one abandons it."""


@attrs.define
class _Outcome(Generic[T]):
    value: T | None = None
    error: BaseException | None = None


def shielded(action: Callable[[], T], *, waiting: Callable[[], object]) -> T:
    """Run `action` to its end, and only then let a signal interrupt the program.

    The action runs in a thread of its own: signals reach the main thread alone, so they cannot
    cut it short.

    Args:
        action: What must not be interrupted.
        waiting: Called at each signal that has to wait, to tell people.

    Raises:
        BaseException: What the action raises, else the signal's exception once it is done, or at
            once when patience has run out.
    """
    outcome: _Outcome[T] = _Outcome()
    done = threading.Event()

    def work() -> None:
        try:
            outcome.value = action()
        except BaseException as error:  # noqa: BLE001 - it is raised again by the caller's thread
            outcome.error = error
        finally:
            done.set()

    threading.Thread(target=work, name="comfyloom-shielded", daemon=True).start()
    interrupted = _wait(done, waiting)
    if outcome.error is not None:
        raise outcome.error
    if interrupted is not None:
        raise interrupted
    return outcome.value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def _wait(done: threading.Event, waiting: Callable[[], object]) -> BaseException | None:
    """Wait for the end and return the first signal that came meanwhile."""
    first: BaseException | None = None
    count = 0
    while not done.is_set():
        try:
            done.wait()
        except (KeyboardInterrupt, SystemExit) as signalled:
            first = first or signalled
            count += 1
            if count > PATIENCE:
                raise
            waiting()
    return first


@contextmanager
def orderly_exit() -> Generator[None]:
    """Make SIGTERM and SIGHUP leave through all `with` blocks, while this one is open.

    Only in the main thread and only in place of the default action: a server that has handlers of
    its own keeps them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
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
