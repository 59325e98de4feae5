"""Daemon threads leave signals to the main thread."""

from __future__ import annotations

import signal

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
