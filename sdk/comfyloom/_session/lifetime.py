"""The life of a session: opened by its first use, closed once, whatever interrupts that."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from functools import partial
from typing import Final

import attrs

from comfyloom._backends.base import Backend
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._core.states import StateHolder
from comfyloom.errors import ComfyloomError, ConfigError
from comfyloom.progress import Progress, ProgressCallback


class SessionState(Enum):
    """The state of a session; `SessionLifetime` lists the transitions."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    RELEASING = "releasing"
    CLOSED = "closed"


_UNCLOSED: Final = frozenset({SessionState.OPEN, SessionState.CLOSING, SessionState.RELEASING})


@attrs.define(eq=False)
class SessionLifetime:
    """The state of a session, and the only code that changes it.

    | state | becomes | by |
    | --- | --- | --- |
    | NEW | OPEN | the first use of a server |
    | NEW, OPEN | CLOSING | `close`: no run starts any more |
    | CLOSING | RELEASING | runs are being cancelled and the machine stopped |
    | RELEASING | CLOSED | it is stopped, or a third signal aborted that |

    Args:
        backend: Closed at the end.
        cancel_runs: Called before that.
        report: Called at the end with the cost of each machine.
    """

    backend: Backend
    cancel_runs: Callable[[], object]
    report: ProgressCallback
    _states: StateHolder[SessionState] = attrs.field(
        factory=lambda: StateHolder(SessionState.NEW), init=False
    )
    _owner: int = attrs.field(factory=os.getpid, init=False)
    _cost_report: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _signals: ExitStack = attrs.field(factory=ExitStack, init=False)

    @property
    def state(self) -> SessionState:
        """Where it is in its life."""
        return self._states.state

    @property
    def is_unclosed(self) -> bool:
        """Whether the session was used, and not closed since."""
        return self.state in _UNCLOSED and os.getpid() == self._owner

    def after_fork(self, *, is_usable: bool) -> None:
        """Begin anew in a forked child, if its parent's session can be used there."""
        state = SessionState.NEW if self.state is SessionState.OPEN and is_usable else self.state
        if state is SessionState.NEW:
            self._owner = os.getpid()
        self._states = StateHolder(state)
        self._cost_report = threading.Lock()

    def exit_on_sigterm(self) -> None:
        """Make SIGTERM and SIGHUP an orderly exit until the session is closed."""
        self._signals.enter_context(exit_on_sigterm())

    def open(self) -> bool:
        """Open the session at its first use; return whether this is the first.

        Raises:
            ConfigError: Its machine belongs to the process that this one was forked from.
            ComfyloomError: The session is closed.
        """
        if os.getpid() != self._owner and self.state is not SessionState.CLOSED:
            raise ConfigError(
                "the machine of this session belongs to another process, from which this one was "
                "forked: create a session in each process, after the fork"
            )
        is_first = self._states.move(SessionState.NEW, to=SessionState.OPEN)
        self.require_open()
        return is_first

    def require_open(self, otherwise: Callable[[], object] = lambda: None) -> None:
        """Raise `ComfyloomError` if the session is closed, after calling `otherwise`."""
        if self.state is not SessionState.OPEN:
            otherwise()
            raise ComfyloomError("this session is closed")

    def close(self) -> None:
        """Release everything; a second call does nothing.

        Raises:
            MachineLeak: The machine may still be running.
        """
        with self._signals:
            if self.state is SessionState.CLOSED or os.getpid() != self._owner:
                return  # a forked child owns neither runs nor machine
            self._states.move(SessionState.NEW, SessionState.OPEN, to=SessionState.CLOSING)
            try:
                defer_signals(
                    self._release, waiting=partial(log.warning, "releasing the machine first")
                )
            except (KeyboardInterrupt, SystemExit):
                self._report_abandoned()
                raise
            finally:
                self._report_costs()

    def close_despite_signals(self) -> None:
        """Close; a signal that comes before the release starts is raised after it."""
        try:
            self.close()
        except (KeyboardInterrupt, SystemExit):
            if self.state not in (SessionState.RELEASING, SessionState.CLOSED):
                self.close()
            raise

    def _release(self) -> None:
        if self.state is SessionState.CLOSED:
            return
        self._states.state = SessionState.RELEASING
        with ExitStack() as stack:
            # In reverse order; a failure does not prevent the rest, and is raised.
            stack.callback(setattr, self._states, "state", SessionState.CLOSED)
            stack.callback(self.backend.close)
            stack.callback(self.cancel_runs)

    def _report_abandoned(self) -> None:
        """Report the machine that is left after a third signal has aborted its stop."""
        machine = self.backend.machine
        is_releasing = self.state is SessionState.RELEASING
        if is_releasing and machine is not None and (leak := machine.leak) is not None:
            self._states.state = SessionState.CLOSED
            log.error("%s", leak)

    def _report_costs(self) -> None:
        """Report what each machine has cost; only the first of several threads that close does."""
        is_over = self.state in (SessionState.RELEASING, SessionState.CLOSED)
        if not is_over or not self._cost_report.acquire(blocking=False):
            return
        for line in self.backend.summary:
            log.info("%s", line)
            self.report(Progress(kind="cost", message=line))
