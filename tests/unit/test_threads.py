"""Daemon threads leave signals to the main thread."""

from __future__ import annotations

import signal
import threading

from comfyloom._core.threads import daemon_thread


def test_a_daemon_thread_takes_no_signals_but_its_own_faults() -> None:
    blocked: set[int] = set()
    thread = daemon_thread(
        lambda: blocked.update(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "test"
    )
    thread.start()
    thread.join()
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1} <= blocked
    assert not {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE} & blocked
    assert thread.daemon
    assert thread.name == "comfyloom-test"


def test_it_blocks_them_from_its_first_instruction() -> None:
    blocked: list[set[int]] = []

    def hook(*_: object) -> None:
        blocked.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, [])))

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    threading.setprofile(hook)
    try:
        thread = daemon_thread(lambda: None, "test")
        thread.start()
    finally:
        threading.setprofile(None)
    thread.join()
    assert signal.SIGTERM in blocked[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
