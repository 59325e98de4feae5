"""Signals are deferred while an action must finish, and become an orderly exit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from comfyloom._core.signals import defer_signals, exit_on_sigterm
from guard_lab import soon


def interrupt(notices: list[str], times: int = 1) -> None:
    """Send SIGINT to this process; each after the first once the one before has its notice.

    The system delivers signals that come faster as one.
    """
    for number in range(times):
        assert soon(lambda: len(notices) >= number)  # noqa: B023 - it is called at once
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.02)


def test_the_value_and_the_error_are_passed_on() -> None:
    assert defer_signals(lambda: 7, waiting=lambda: None) == 7

    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        defer_signals(fail, waiting=lambda: None)


def test_a_signal_is_deferred_until_the_end() -> None:
    done: list[str] = []
    notices: list[str] = []

    def work() -> None:
        interrupt(notices, 2)
        assert soon(lambda: len(notices) == 2)
        done.append("stopped")

    with pytest.raises(KeyboardInterrupt):
        defer_signals(work, waiting=lambda: notices.append("waiting"))
    assert done == ["stopped"]
    assert notices == ["waiting", "waiting"]


def test_the_third_signal_aborts() -> None:
    release = threading.Event()
    notices: list[str] = []

    def work() -> None:
        interrupt(notices, 3)
        release.wait(30)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        defer_signals(work, waiting=lambda: notices.append("waiting"))
    assert time.monotonic() - begun < 20
    release.set()


def test_handlers_are_restored() -> None:
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(kind) for kind in kinds]
    defer_signals(lambda: None, waiting=lambda: None)
    assert [signal.getsignal(kind) for kind in kinds] == before


def test_an_error_of_the_action_does_not_swallow_the_signal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A program that catches the error would continue as if it had not been interrupted."""

    def work() -> None:
        interrupt([])
        raise ValueError("not stopped")

    with pytest.raises(KeyboardInterrupt) as caught:
        defer_signals(work, waiting=lambda: None)
    assert str(caught.value.__context__) == "not stopped"
    assert caplog.messages == ["not stopped"]


def test_an_error_is_raised_after_a_handler_that_does_not_raise() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:

        def work() -> None:
            interrupt([])
            raise ValueError("not stopped")

        with pytest.raises(ValueError, match="not stopped"):
            defer_signals(work, waiting=lambda: None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_the_first_of_two_blocks_that_ends_keeps_the_orderly_exit() -> None:
    with exit_on_sigterm():
        inner = contextlib.ExitStack()
        inner.enter_context(exit_on_sigterm())
    with inner, pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_block_may_be_left_in_another_thread() -> None:
    errors: list[BaseException] = []
    block = contextlib.ExitStack()
    block.enter_context(exit_on_sigterm())

    def leave() -> None:
        try:
            block.close()
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            errors.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert errors == []
    code = "import os, signal, threading; from contextlib import ExitStack\n"
    code += "from comfyloom._core.signals import exit_on_sigterm\n"
    code += "s = ExitStack(); s.enter_context(exit_on_sigterm())\n"
    code += "t = threading.Thread(target=s.close); t.start(); t.join()\n"
    code += "os.kill(os.getpid(), signal.SIGTERM)\n"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM  # as without a block
    with exit_on_sigterm():
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_in_another_thread_the_action_simply_runs() -> None:
    found: list[threading.Thread] = []
    thread = threading.Thread(
        target=lambda: found.append(defer_signals(threading.current_thread, waiting=lambda: None))
    )
    thread.start()
    thread.join()
    assert found == [thread]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_becomes_an_orderly_exit(number: signal.Signals) -> None:
    def leave() -> None:
        with exit_on_sigterm():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(SystemExit) as caught:
        leave()
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL


def test_handlers_of_the_program_are_left_alone() -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with exit_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_installs_no_handler() -> None:
    found: list[object] = []

    def work() -> None:
        with exit_on_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
