"""Daemon threads that block signals, which belong to the main thread."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FAULT_SIGNALS: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP")
    if hasattr(signal, name)
)
"""Signals that a thread causes itself must reach it: a fault handler reports them."""


def daemon_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a daemon thread, not started, that blocks signals.

    Python handles signals in the main thread. One delivered to another thread does not wake a
    sleeping main thread: Ctrl-C and SIGTERM would be delayed (seen on Linux after SIGSTOP and
    SIGCONT).
    """
    return _SignalBlockingThread(target=target, name=f"comfyloom-{name}", daemon=True)


class _SignalBlockingThread(threading.Thread):
    """A thread that blocks signals from its first instruction."""

    def start(self) -> None:
        """Start it with a signal mask inherited from the starter: none arrives before it is set."""
        if not hasattr(signal, "pthread_sigmask"):
            super().start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULT_SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def map_in_threads(function: Callable[[T], R], given: Sequence[T], at_once: int) -> list[R]:
    """Call a function with each value, `at_once` in parallel; return the results in order.

    The threads are daemons: they do not delay the exit of the interpreter.

    Raises:
        BaseException: The first error of a call; no further call is started after it.
    """
    if len(given) <= 1:
        return [function(each) for each in given]
    results: dict[int, R] = {}
    errors: list[BaseException] = []
    todo = deque(enumerate(given))

    def work() -> None:
        while not errors:
            try:
                number, each = todo.popleft()
            except IndexError:
                return
            try:
                results[number] = function(each)
            except BaseException as error:  # noqa: BLE001 - it is raised again by the caller
                errors.append(error)

    threads = [daemon_thread(work, "download") for _ in range(min(at_once, len(given)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(given))]
