"""The life of a session: opened by its first use, closed once, whatever interrupts that."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._backends.base import Backend
from comfyloom._core.forks import renew_after_fork
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._core.states import StateHolder
from comfyloom._session.run_starter import RunStarter
from comfyloom.errors import ComfyloomError, ConfigError, MachineStartFailed
from comfyloom.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._workflow.workflow import Workflow


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
    | NEW | OPEN | entering the block, or the first use of a server |
    | NEW, OPEN | CLOSING | `close`: no run starts any more |
    | CLOSING | RELEASING | runs are being cancelled and the machine stopped |
    | RELEASING | CLOSED | it is stopped, or a third signal aborted that |

    Args:
        backend: Closed at the end.
        starter: All its runs are cancelled before that.
        report: Called while a machine starts, and at the end with the cost of each machine.
        starts_at_once: Whether to start what it needs when it is entered, not with the first run.
    """

    backend: Backend
    starter: RunStarter
    report: ProgressCallback
    starts_at_once: bool = False
    _states: StateHolder[SessionState] = attrs.field(
        factory=lambda: StateHolder(SessionState.NEW), init=False
    )
    _owner: int = attrs.field(factory=os.getpid, init=False)
    _cost_report: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _signals: ExitStack = attrs.field(factory=ExitStack, init=False)

    def __attrs_post_init__(self) -> None:
        renew_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """Begin anew in a forked child; without a machine of the parent, it can be used there."""
        self.starter.after_fork()
        is_usable = self.backend.after_fork()
        state = SessionState.NEW if self.state is SessionState.OPEN and is_usable else self.state
        if state is SessionState.NEW:
            self._owner = os.getpid()
        self._states = StateHolder(state)
        self._cost_report = threading.Lock()

    @property
    def state(self) -> SessionState:
        """Where it is in its life."""
        return self._states.state

    @property
    def is_unclosed(self) -> bool:
        """Whether the session was used, and not closed since."""
        return self.state in _UNCLOSED and os.getpid() == self._owner

    def enter(self) -> None:
        """Make SIGTERM and SIGHUP an orderly exit until the session is closed."""
        self._signals.enter_context(exit_on_sigterm())
        try:
            self.open()
            if self.starts_at_once:
                self.connect(None)
        except BaseException:
            # `__exit__` is not called when `__enter__` fails.
            self.close_despite_signals()
            raise

    def connect(
        self,
        workflow: type[Workflow[Any]] | None,
        report: ProgressCallback | None = None,
        checkpoint: Callable[[], object] = lambda: None,
        *,
        machines: int = 2,
    ) -> ComfyUI:
        """Return the client of the ComfyUI, launching a machine if needed.

        Args:
            workflow: What will run, None if that is not known.
            report: Called with the progress of a start; by default the session's.
            checkpoint: Called several times a second meanwhile; it may raise.
            machines: How many may be tried: one that ends while it starts, or whose ComfyUI never
                answers, is replaced.

        Raises:
            ConfigError: Its machine belongs to the process that this one was forked from, or it is
                unclear which version to launch.
            ComfyloomError: The session is closed, or there is no machine.
        """
        self.open()
        while True:
            try:
                server = self.backend.open(workflow, report or self.report, checkpoint)
            except ComfyloomError as error:
                checkpoint()
                self._require_open()  # that is the cause, if it was closed meanwhile
                machines -= 1
                is_replaceable = isinstance(error, MachineStartFailed) and error.server_id
                if not machines or not is_replaceable:
                    raise
                log.warning("%s; launching another", error)
            else:
                self._require_open(otherwise=self.backend.close)
                return server

    def open(self) -> None:
        """Open the session, unless it is open.

        Raises:
            ConfigError: Its machine belongs to the process that this one was forked from.
            ComfyloomError: It is closed.
        """
        if os.getpid() != self._owner and self.state is not SessionState.CLOSED:
            raise ConfigError(
                "the machine of this session belongs to another process, from which this one was "
                "forked: create a session in each process, after the fork"
            )
        if self._states.move(SessionState.NEW, to=SessionState.OPEN):
            atexit.register(_close_at_exit, weakref.ref(self))
        self._require_open()

    def _require_open(self, otherwise: Callable[[], object] = lambda: None) -> None:
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
            stack.callback(self.starter.cancel_all)

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


def _close_at_exit(lifetime: weakref.ref[SessionLifetime]) -> None:
    """Close a session when the interpreter exits, if it still exists."""
    if (alive := lifetime()) is not None:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):  # it is exiting already
            alive.close()
