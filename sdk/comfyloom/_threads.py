"""Threads that work for the caller, and leave signals to it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Final

_OWN_FAULTS: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP")
    if hasattr(signal, name)
)
"""What a thread brings upon itself must reach it: a fault handler reports it."""


def helper(target: Callable[[], object], name: str) -> threading.Thread:
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
