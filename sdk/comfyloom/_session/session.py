"""The session: runs workflows, and releases its machine."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from decimal import Decimal
from enum import Enum
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from comfyloom._backends.resolve import TargetLike, resolve
from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._core.waiting import Deadline
from comfyloom._session.execution import Execution, SubmissionTicket
from comfyloom._session.run import Run, SafeCallback
from comfyloom._session.staging import StagingDir, check_writable
from comfyloom._workflow import run_values
from comfyloom._workflow.validation import validate
from comfyloom._workflow.workflow import Result, Workflow
from comfyloom.errors import ComfyloomError, ConfigError, WorkflowError
from comfyloom.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from comfyloom._machines.machine import Machine
    from comfyloom.settings import Settings

ResultT = TypeVar("ResultT", bound=Result)

RUN_TIMEOUT_S: Final = 3600.0
# Below this, seeds are exact in every JSON parser, also if it only has doubles.
_SEED_BOUND: Final = 2**53


class SessionState(Enum):
    """The state of a session; `RunComfySession` lists the transitions."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    RELEASING = "releasing"
    CLOSED = "closed"


class RunComfySession:
    """Runs workflows; as a `with` block, it cannot leave a machine behind.

        with RunComfySession() as session:
            result = session.run(FluxMeshWorkflow(input_image="render.png", prompt="a robot"))

    Entering the block launches a machine and waits until it is ready (some minutes); leaving it
    stops the machine, also after an exception, Ctrl-C and SIGTERM. A dev server (`DevServer`) that
    fits is used instead, and left running. Without a workflow version id in the settings, the first
    run launches the machine, because the name of its workflow selects the version.

    | state | becomes | by |
    | --- | --- | --- |
    | NEW | OPEN | the first use of a server |
    | NEW, OPEN | CLOSING | `close`: no run starts any more |
    | CLOSING | RELEASING | runs are being cancelled and the machine stopped |
    | RELEASING | CLOSED | it is stopped, or a third signal aborted that |

    Args:
        target: `"runcomfy"` (the default), `"emulator"`, the URL of a ComfyUI server, or an
            `Emulator`.
        settings: The account; by default `Settings.load()`.
        server_type: The machine type, for example `"large"`.
        on_progress: Called with progress: while the machine starts, in `run`, and at the end with
            the cost of each machine.
        launch: Whether to launch a machine when there is no dev server to use.
        emulator_options: For `"emulator"`: the arguments of its `Emulator`.
        timeouts: Time limits and intervals.
        clock: The time; tests pass their own.

    Raises:
        ConfigError: Settings are missing or wrong; it lists them all.
    """

    def __init__(
        self,
        target: TargetLike = None,
        *,
        settings: Settings | None = None,
        server_type: str | None = None,
        on_progress: ProgressCallback | None = None,
        launch: bool = True,
        emulator_options: Mapping[str, Any] | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._state = SessionState.NEW
        self._backend = resolve(
            target,
            settings=settings,
            server_type=server_type,
            emulator_options=emulator_options,
            may_launch=launch,
            timeouts=timeouts,
            clock=clock,
        )
        self._on_progress: ProgressCallback = on_progress or (
            lambda progress: log.debug("%s", progress.message)
        )
        self._report: ProgressCallback = SafeCallback(self._on_progress)
        self._lock = threading.RLock()
        self._runs: weakref.WeakSet[Run[Any]] = weakref.WeakSet()
        self._ticket = SubmissionTicket()
        self._ticket.end()
        self._signals = ExitStack()

    def __enter__(self) -> Self:
        self._signals.enter_context(exit_on_sigterm())
        try:
            self.start()
        except BaseException:
            # `__exit__` is not called when `__enter__` fails.
            self._close_despite_signals()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_despite_signals()

    def __del__(self) -> None:
        if self._state in (SessionState.OPEN, SessionState.CLOSING, SessionState.RELEASING):
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        machine = self._backend.machine
        return f"<RunComfySession on {machine.server_id or 'a machine' if machine else 'a server'}>"

    @property
    def machine(self) -> Machine | None:
        """The machine that this session used last; None before, and for a plain ComfyUI."""
        return self._backend.machine

    @property
    def summary(self) -> list[str]:
        """One human-readable line for each machine: its use and cost; [] without a machine."""
        return self._backend.summary

    @property
    def cost(self) -> Decimal | None:
        """Cost of the session's machines so far, in USD; None if a price is unknown."""
        return self._backend.cost

    def start(self, workflow: type[Workflow[Any]] | Workflow[Any] | None = None) -> None:
        """Launch a machine if needed; entering a `with` block does it.

        Args:
            workflow: What will run: its name selects the version to launch if the settings name
                none.

        Raises:
            MachineError: The machine ended, or was not ready in time; it is stopped.
            ApiError: The platform refuses the launch.
        """
        self._connect(workflow)

    def server(self, workflow: type[Workflow[Any]] | Workflow[Any] | None = None) -> ComfyUI:
        """Return the client of the ComfyUI that runs use, launching a machine if needed.

        Args:
            workflow: What will run: its name selects the version to launch if the settings name
                none.

        Raises:
            MachineError: There is no machine, or it was not ready in time.
            ConfigError: It is unclear which version to launch.
        """
        found = self._connect(workflow)
        if found is None:
            raise ConfigError("which workflow? Name one, or set RUNCOMFY_WORKFLOW_VERSION_ID")
        return found

    def run(
        self,
        workflow: Workflow[ResultT],
        *,
        timeout: float | None = RUN_TIMEOUT_S,
        on_progress: ProgressCallback | None = None,
        out_dir: str | os.PathLike[str] | None = None,
    ) -> ResultT:
        """Run a workflow, block until it has ended, and return its result.

        Args:
            workflow: What to run.
            timeout: Seconds it may take, None for no limit; then it is cancelled.
            on_progress: Called in this thread with each progress.
            out_dir: Folder for its files, all or none; by default a temporary folder that lives as
                long as the result.

        Raises:
            WorkflowError: The workflow or one of its values cannot run; nothing was sent.
            RunError: The run gave no result.
            ComfyloomError: Anything else that prevented a result.
        """
        run = self.submit(workflow, timeout=timeout, out_dir=out_dir)
        return run.wait(on_progress=on_progress or self._on_progress)

    def submit(
        self,
        workflow: Workflow[ResultT],
        *,
        timeout: float | None = RUN_TIMEOUT_S,
        out_dir: str | os.PathLike[str] | None = None,
    ) -> Run[ResultT]:
        """Start a workflow and return without waiting for its end.

        Args:
            workflow: What to run.
            timeout: Seconds it may take, None for no limit; then it is cancelled.
            out_dir: Folder for its files, all or none.

        Raises:
            WorkflowError: The workflow or one of its values cannot run; nothing was sent.
            ConfigError: `timeout` is invalid.
            OutputNotWritable: `out_dir` cannot be written.
            ComfyloomError: The system has no thread left for it.
        """
        _check_workflow(workflow)
        _check_timeout(timeout)
        files = run_values.read_files(workflow)
        validate(workflow)
        if out_dir is not None:
            check_writable(out_dir)
        server = self.server(workflow)
        staging = StagingDir(out_dir)
        with self._lock:
            self._ticket = ticket = self._ticket.next()
        start = partial(
            Execution[ResultT],
            workflow,
            files,
            run_values.draw_seeds(workflow, _draw_seed),
            server,
            self._backend,
            staging,
            ticket,
            Deadline.after(timeout, server.clock),
        )
        try:
            run = Run[ResultT](start, owner=self)
        except BaseException as error:
            ticket.end()
            staging.close()
            if isinstance(error, RuntimeError):  # the system has no more threads
                raise ComfyloomError(f"cannot start the run: {error}") from None
            raise
        self._runs.add(run)
        return run

    def map(
        self,
        workflows: Iterable[Workflow[ResultT]],
        *,
        concurrency: int = 2,
        timeout: float | None = RUN_TIMEOUT_S,
    ) -> Iterator[ResultT]:
        """Run many workflows and yield their results in order.

        Args:
            workflows: What to run; taken one by one when a run may start.
            concurrency: Runs under way at once, at least 1. A ComfyUI works on one at a time: with
                two, the next waits in its queue while files are downloaded.
            timeout: Seconds that each may take.

        Raises:
            ComfyloomError: The error of the first run without a result; the others are cancelled.
        """
        under_way: deque[Run[ResultT]] = deque()
        try:
            for workflow in workflows:
                under_way.append(self.submit(workflow, timeout=timeout))
                if len(under_way) >= max(1, concurrency):
                    yield under_way.popleft().wait()
            while under_way:
                yield under_way.popleft().wait()
        finally:
            Run.cancel_all(under_way)

    def close(self) -> None:
        """Cancel all runs and stop the machine; a second call does nothing.

        Raises:
            MachineLeak: The machine may still be running; the message says what to do.
        """
        with self._signals:
            if self._state is SessionState.CLOSED:
                return
            if self._state is not SessionState.RELEASING:
                self._state = SessionState.CLOSING
            try:
                defer_signals(
                    self._release, waiting=partial(log.warning, "releasing the machine first")
                )
            except (KeyboardInterrupt, SystemExit):
                self._report_abandoned()
                raise
            finally:
                if self._is_in(SessionState.CLOSED):
                    for line in self._backend.summary:
                        log.info("%s", line)
                        self._report(Progress(kind="cost", message=line))

    def _close_despite_signals(self) -> None:
        """Close; a signal that comes before the release starts is raised after it."""
        try:
            self.close()
        except (KeyboardInterrupt, SystemExit):
            if self._state is SessionState.CLOSING:
                self.close()
            raise

    def _release(self) -> None:
        if self._state is SessionState.CLOSED:
            return
        self._state = SessionState.RELEASING
        with ExitStack() as stack:
            # In reverse order; a failure does not prevent the rest, and is raised.
            stack.callback(setattr, self, "_state", SessionState.CLOSED)
            stack.callback(self._backend.close)
            stack.callback(Run.cancel_all, tuple(self._runs))

    def _report_abandoned(self) -> None:
        """Report the machine that is left after a third signal has aborted its stop."""
        machine = self._backend.machine
        is_releasing = self._state is SessionState.RELEASING
        if is_releasing and machine is not None and (leak := machine.leak) is not None:
            self._state = SessionState.CLOSED
            log.error("%s", leak)

    def _connect(self, workflow: type[Workflow[Any]] | Workflow[Any] | None) -> ComfyUI | None:
        with self._lock:
            if self._state is SessionState.NEW:
                self._state = SessionState.OPEN
                atexit.register(_close_at_exit, weakref.ref(self))
            if self._state is not SessionState.OPEN:
                raise ComfyloomError("this session is closed")
            name = None if workflow is None else workflow.__workflow__.name
            server = self._backend.open(name, self._report)
            if not self._is_in(SessionState.OPEN):  # closed during the launch
                self._backend.close()
                raise ComfyloomError("this session was closed")
            return server

    def _is_in(self, state: SessionState) -> bool:
        return self._state is state  # may change in a signal or another thread


def _check_workflow(workflow: object) -> None:
    if not isinstance(workflow, Workflow):
        name = getattr(workflow, "__name__", "")
        given = f"{name}: pass {name}(…)" if name else type(workflow).__name__
        raise WorkflowError(f"expected a workflow instance, got {given}")


def _check_timeout(timeout: object) -> None:
    """Refuse an invalid timeout before anything is uploaded or launched."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is None or (is_number and timeout >= 0):  # type: ignore[operator]  # pyright: ignore
        return
    raise ConfigError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")


def _close_at_exit(session: weakref.ref[RunComfySession]) -> None:
    """Close a session when the interpreter exits, if it still exists."""
    if (alive := session()) is not None:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):  # it is exiting already
            alive.close()


def _draw_seed(bound: int) -> int:
    # The system's randomness: forked processes must draw different seeds.
    return random.SystemRandom().randrange(min(bound + 1, _SEED_BOUND))
