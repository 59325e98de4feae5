"""Threads that work for the caller, and leave signals to it."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_OWN_FAULTS: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP")
    if hasattr(signal, name)
)
"""What a thread brings upon itself must reach it: a fault handler reports it."""


def daemon_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a daemon thread, not started, that no signal is delivered to.

    Python acts on signals in the main thread alone. One that the system gives to another thread
    does not wake a main thread that sleeps: Ctrl-C and SIGTERM would wait until it wakes by itself
    (seen on Linux after SIGSTOP and SIGCONT).
    """

    def run() -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OWN_FAULTS)
        target()

    return threading.Thread(target=run, name=f"comfyloom-{name}", daemon=True)


def map_in_threads(function: Callable[[T], R], given: Sequence[T], at_once: int) -> list[R]:
    """Call a function with each of some things, several at once, and return the results in order.

    The threads are helpers: an interpreter that exits does not wait for what they wait for.

    Raises:
        BaseException: What a call raised first; what was not begun then is not begun any more.
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
