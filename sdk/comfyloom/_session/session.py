"""The session: runs workflows, and gives its machine back."""

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
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from comfyloom._backends.resolve import TargetLike, resolve
from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._session.execution import Execution, SubmissionTicket
from comfyloom._session.run import Run, SafeCallback, cancel_all
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
# Seeds stay exact in every JSON reader below this, also in one that knows only doubles.
_SEED_BOUND: Final = 2**53


class RunComfySession:
    """Runs workflows; as a `with` block, it cannot leave a machine behind.

        with RunComfySession() as session:
            result = session.run(FluxMeshWorkflow(input_image="render.png", prompt="a robot"))

    Entering the block launches a machine and waits until it is ready (some minutes), and leaving
    it, in whatever way, stops the machine: after an exception, Ctrl-C and SIGTERM as well. A dev
    server (`DevServer`) that fits is used instead, and left running. Without
    a workflow version id in the settings the machine is launched by the first run instead, because
    the name of its workflow tells which version to launch.

    Args:
        target: `"runcomfy"` (the default), `"emulator"`, the URL of a ComfyUI server, or an
            `Emulator`.
        settings: The account; by default gathered by `Settings.load`.
        server_type: The kind of machine, for example `"large"`.
        on_progress: Called with what happens: while the machine starts, in `run`, and in the end
            with what each machine has cost.
        launch: Whether to launch a machine when there is no dev server to use.
        emulator_options: For `"emulator"`: the arguments of its `Emulator`.
        clock: The time; another one than the real for tests.

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
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._closed = True  # until there is something to close
        self._used = False
        self._backend = resolve(
            target,
            settings=settings,
            server_type=server_type,
            emulator_options=emulator_options,
            may_launch=launch,
            clock=clock,
        )
        self._on_progress: ProgressCallback = on_progress or _log_progress
        self._tell: ProgressCallback = SafeCallback(self._on_progress)
        self._releasing = False
        self._released = False
        self._costs_told = False
        self._lock = threading.RLock()
        self._runs: weakref.WeakSet[Run[Any]] = weakref.WeakSet()
        self._turn = SubmissionTicket()
        self._turn.end()
        self._signals = ExitStack()
        self._closed = False

    def __enter__(self) -> Self:
        self._signals.enter_context(exit_on_sigterm())
        try:
            self.start()
        except BaseException:
            # `__exit__` is not called when `__enter__` fails.
            self._close_surely()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_surely()

    def __del__(self) -> None:
        if self._used and not self._released:
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
        """What was used of each machine and what that cost, for people; [] without a machine."""
        return self._backend.summary()

    @property
    def cost(self) -> Decimal | None:
        """What the session's machines have cost so far, in USD; 0 for a ComfyUI of one's own.

        None when the price of the server type is not known.
        """
        return self._backend.cost()

    def start(self, workflow: type[Workflow[Any]] | Workflow[Any] | None = None) -> None:
        """Launch what has to be launched; entering a `with` block does it.

        Args:
            workflow: What will be run: its name tells which version to launch when the settings
                have none.

        Raises:
            MachineError: The machine ended, or was not ready in time; it is stopped.
            ApiError: The platform refuses the launch.
        """
        self._connect(workflow)

    def server(self, workflow: type[Workflow[Any]] | Workflow[Any] | None = None) -> ComfyUI:
        """Return the client of the ComfyUI that runs happen on, launching what has to be launched.

        Args:
            workflow: What will be run: its name tells which version to launch when the settings
                have none.

        Raises:
            MachineError: There is no machine, or it was not ready in time.
            ConfigError: Which version to launch cannot be told.
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
            on_progress: Called in this thread with what happens.
            out_dir: Where its files shall be, all or none; by default a temporary folder that
                lives as long as the result.

        Raises:
            WorkflowError: The workflow or one of its values cannot be run; nothing was sent.
            RunError: The run gave no result.
            ComfyloomError: Anything else that kept it from one.
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
        """Begin to run a workflow and return at once, when the machine is there.

        Args:
            workflow: What to run.
            timeout: Seconds it may take, None for no limit; then it is cancelled.
            out_dir: Where its files shall be, all or none.

        Raises:
            WorkflowError: The workflow or one of its values cannot be run; nothing was sent.
            ConfigError: `timeout` is no time.
            OutputNotWritable: `out_dir` cannot be written.
            ComfyloomError: The system has no thread left for it.
        """
        if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            name = getattr(workflow, "__name__", "")
            given = f"{name}: give {name}(…)" if name else type(workflow).__name__
            raise WorkflowError(f"a workflow object is run, not {given}")
        _check_timeout(timeout)
        files = run_values.read_files(workflow)
        validate(workflow)
        if out_dir is not None:
            check_writable(out_dir)
        server = self.server(workflow)
        staging = StagingDir(out_dir)
        turn = self._next_turn()
        start = partial(
            Execution[ResultT],
            workflow,
            files,
            run_values.draw_seeds(workflow, _draw_seed),
            server,
            self._backend,
            staging,
            turn,
        )
        try:
            run = Run[ResultT](start, timeout, manager=self)
        except BaseException as error:
            turn.end()
            staging.close()
            if isinstance(error, RuntimeError):  # the system has no more threads
                raise ComfyloomError(f"the run cannot be begun: {error}") from None
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
            workflows: What to run; taken one by one, as there is room.
            concurrency: Runs under way at once, at least 1. A ComfyUI works on one at a time:
                with two, the next waits in its queue while files are fetched.
            timeout: Seconds that each may take.

        Raises:
            ComfyloomError: That of the first run without a result; the others are cancelled.
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
            cancel_all(under_way)

    def close(self) -> None:
        """Cancel what still runs and stop the machine; a second call does nothing.

        Raises:
            MachineLeak: The machine may still be running; the message says what to do.
        """
        self._closed = True
        with self._signals:
            try:
                defer_signals(self._release, waiting=_say_it_is_given_back)
            except (KeyboardInterrupt, SystemExit):
                self._tell_what_is_left()
                raise
            finally:
                self._tell_costs()

    def _tell_what_is_left(self) -> None:
        """Say so when somebody's third signal has abandoned the stop."""
        machine = self._backend.machine
        if self._releasing and machine is not None and (leak := machine.leak) is not None:
            self._released = True
            log.error("%s", leak)

    def _close_surely(self) -> None:
        """Close; a signal that comes in the moment before it is put off is raised afterwards."""
        try:
            self.close()
        except (KeyboardInterrupt, SystemExit):
            if not self._releasing:
                self.close()
            raise

    def _release(self) -> None:
        self._releasing = True
        if self._released:
            return
        with ExitStack() as stack:
            # In reverse order; what fails does not stop the rest, and is told, not tried again.
            stack.callback(setattr, self, "_released", True)
            stack.callback(self._backend.close)
            stack.callback(cancel_all, tuple(self._runs))

    def _tell_costs(self) -> None:
        lines = [] if self._costs_told else self._backend.summary()
        self._costs_told = True
        for line in lines:
            log.info("%s", line)
            self._tell(Progress(kind="cost", message=line))

    def _next_turn(self) -> SubmissionTicket:
        with self._lock:
            self._turn = self._turn.next()
            return self._turn

    def _connect(self, workflow: type[Workflow[Any]] | Workflow[Any] | None) -> ComfyUI | None:
        with self._lock:
            if self._closed:
                raise ComfyloomError("this session is closed")
            if not self._used:
                self._used = True
                atexit.register(_close, weakref.ref(self))
            name = None if workflow is None else workflow.__workflow__.name
            server = self._backend.open(name, self._tell)
            if self._closed:  # by another thread, while the machine was launched
                self._backend.close()
                raise ComfyloomError("this session was closed")
            return server


def _check_timeout(timeout: object) -> None:
    """Refuse what is no time, before anything is uploaded or launched for it."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is None or (is_number and timeout >= 0):  # type: ignore[operator]  # pyright: ignore
        return
    raise ConfigError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")


def _say_it_is_given_back() -> None:
    log.warning("giving the machine back first")


def _close(session: weakref.ref[RunComfySession]) -> None:
    """Close a session at the interpreter's exit, if it is still there."""
    if (alive := session()) is not None:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):  # it exits as it is
            alive.close()


def _draw_seed(bound: int) -> int:
    # The system's own chance: processes that were forked from one draw other seeds.
    return random.SystemRandom().randrange(min(bound + 1, _SEED_BOUND))


def _log_progress(progress: Progress) -> None:
    log.debug("%s", progress.message)
