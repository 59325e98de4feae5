"""The session: runs workflows, and releases its machine."""

from __future__ import annotations

import importlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from comfyloom._backends.availability import Availability, AvailabilityCache
from comfyloom._backends.resolve import TargetLike, resolve
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.forks import importing
from comfyloom._core.redact import log
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._session.lifetime import SessionLifetime
from comfyloom._session.run import Run, SafeCallback
from comfyloom._session.run_starter import RunStarter
from comfyloom._session.staging import check_writable
from comfyloom._workflow.workflow import Result, Workflow
from comfyloom.errors import ConfigError, MachineError, WorkflowError
from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._machines.machine import Machine
    from comfyloom._workflow.files import InputFile
    from comfyloom._workflow.run_options import RunOptions
    from comfyloom._workflow.run_plan import RunPlan
    from comfyloom.settings import Auth, ClientCert, ComfyUISettings, Headers, Settings, Verify

ResultT = TypeVar("ResultT", bound=Result)

RUN_TIMEOUT_S: Final = 3600.0
# What only runs need, and the first one imports.
_OF_RUNS: Final = (
    "websocket",
    "comfyloom._session.execution",
    "comfyloom._workflow.run_plan",
    "comfyloom._workflow.validation",
)


class RunComfySession:
    """Runs workflows; as a `with` block, it cannot leave a machine behind.

        with RunComfySession() as session:
            result = session.run(FluxMeshWorkflow(input_image="render.png", prompt="a robot"))

    The first run launches a machine, once what is wrong locally is excluded, and waits until it is
    ready (some minutes); leaving the block stops it, also after an exception, Ctrl-C and SIGTERM. A
    dev server (`DevServer`) that fits is used instead, and left running.

    Args:
        target: `"runcomfy"` (the default), `"emulator"`, a ComfyUI server's URL, or an `Emulator`.
        settings: The account; by default `Settings.load()`.
        server_type: The machine type, for example `"large"`, or several in order of preference.
        on_progress: Called in `start`, `run` and `map`, and at the end with each machine's cost.
        start: Whether entering the block launches the machine at once.
        launch: Whether to launch a machine when there is no dev server to use.
        auth: The login of the ComfyUI: `(user, password)`, a token, or a callable that adds it to
            each request. It and the next three replace settings; no other server gets them.
        headers: Further headers for the ComfyUI, also `Cookie`.
        verify: Whether to check its certificate, or a file with it, or with an authority's.
        client_cert: A file with our certificate and key, or one file for each.
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
        server_type: str | Sequence[str] | None = None,
        on_progress: ProgressCallback | None = None,
        start: bool = False,
        launch: bool = True,
        auth: Auth | None = None,
        headers: Headers | None = None,
        verify: Verify | None = None,
        client_cert: ClientCert | None = None,
        emulator_options: Mapping[str, Any] | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._backend, self._settings = resolve(
            target,
            settings=settings,
            server_type=server_type,
            emulator_options=emulator_options,
            may_launch=launch,
            asking={"auth": auth, "headers": headers, "verify": verify, "client_cert": client_cert},
            timeouts=timeouts,
            clock=clock,
        )
        self._on_progress: ProgressCallback = on_progress or (lambda p: log.debug("%s", p.message))
        self._starter = RunStarter(self._backend)
        self._availability = AvailabilityCache(self._backend.availability, timeouts, clock)
        safe = SafeCallback(self._on_progress)
        self._lifetime = SessionLifetime(self._backend, self._starter, safe, start)

    def __enter__(self) -> Self:
        self._lifetime.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._lifetime.close_despite_signals()

    def __del__(self) -> None:
        lifetime = getattr(self, "_lifetime", None)  # missing if the target was refused
        if lifetime is not None and lifetime.is_unclosed:
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
        """Cost of its machines so far, in USD; 0 without one, None if a price is unknown."""
        return self._backend.cost

    def start(self, workflow: type[Workflow[Any]] | Workflow[Any] | None = None) -> None:
        """Launch a machine now, if needed, and wait until it is ready.

        Args:
            workflow: What will run; needed if the settings name no version to launch.

        Raises:
            MachineError: There is no machine; each that was launched is stopped.
            ConfigError: It is unclear which version to launch.
            ApiError: The platform refuses the launch.
        """
        self.server(workflow)

    def server(self, workflow: type[Workflow[Any]] | Workflow[Any] | None = None) -> ComfyUI:
        """Return the client of the ComfyUI that runs use, launching a machine if needed.

        Arguments and errors are those of `start`.
        """
        cls = type(workflow) if isinstance(workflow, Workflow) else workflow
        return self._lifetime.connect(cls)

    def run(
        self,
        workflow: Workflow[ResultT],
        *,
        timeout: float | None = RUN_TIMEOUT_S,
        on_progress: ProgressCallback | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> ResultT:
        """Run a workflow, block until it has ended, and return its result.

        Args:
            workflow: What to run.
            timeout: Seconds it may take on its server, None for no limit; then it is cancelled.
            on_progress: Called in this thread with each progress event.
            out_dir: Folder for its files, all or none; by default one that lives with the result.
            **options: What is wanted, and how it is queued; see `RunOptions`.

        Raises:
            WorkflowError: The workflow or one of its values cannot run; nothing was sent.
            RunError: The run gave no result.
            ComfyloomError: Anything else that prevented a result.
        """
        run = self.submit(workflow, timeout=timeout, out_dir=out_dir, **options)
        return run.wait(on_progress=on_progress or self._on_progress)

    def submit(
        self,
        workflow: Workflow[ResultT],
        *,
        timeout: float | None = RUN_TIMEOUT_S,
        out_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run[ResultT]:
        """Start a workflow and return at once, also if a machine must be launched first.

        Arguments are those of `run`.

        Raises:
            WorkflowError: The workflow or one of its values cannot run; nothing was sent.
            ConfigError: An option is invalid, or the session belongs to another process.
            OutputNotWritable: `out_dir` cannot be written.
            ComfyloomError: The system has no thread left for it.
        """
        _check_call(workflow, timeout)
        plan, files = _prepared(workflow, self._settings, options, self._backend.modules)
        if out_dir is not None:
            check_writable(out_dir)
        self._lifetime.open()
        connect = partial(self._lifetime.connect, type(workflow))
        return self._starter.start(plan, files, connect, timeout, out_dir, owner=self)

    def map(
        self,
        workflows: Iterable[Workflow[ResultT]],
        *,
        concurrency: int = 2,
        timeout: float | None = RUN_TIMEOUT_S,
        on_progress: ProgressCallback | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Iterator[ResultT]:
        """Run many workflows and yield their results in order.

        Args:
            workflows: What to run; taken one by one when a run may start.
            concurrency: Runs under way at once, at least 1. A ComfyUI works on one at a time: with
                two, the next waits in its queue while files are downloaded.
            timeout: Seconds that each may take.
            on_progress: Called in this thread with the events of the run that is waited for.
            out_dir: Folder for their files; each run gets its own in it: `000`, `001` and so on.
            **options: The same for each; see `RunOptions`.

        Raises:
            ComfyloomError: The error of the first run without a result; the others are cancelled.
        """
        submit = partial(self.submit, timeout=timeout, **options)
        report = on_progress or self._on_progress
        return _in_order(submit, workflows, concurrency, out_dir, report)

    def availability(self) -> Availability:
        """Return whether a run could begin, and what that would take; nothing is launched.

        It returns within two seconds, at once while it knows; `why` says what prevents a run.
        """
        return self._availability.get()

    def free(self) -> None:
        """Make its ComfyUI unload all models and forget all results, once nothing runs there.

        Raises:
            ComfyloomError: No machine is in use, or it refuses, or does not answer.
        """
        if not self._backend.is_free_to_open:
            raise MachineError("no machine is in use: there is nothing to free")
        self.server().free()

    def close(self) -> None:
        """Cancel all runs and stop the machine; a second call does nothing.

        Raises:
            MachineLeak: The machine may still be running; the message says what to do.
        """
        self._lifetime.close()


def _prepared(
    workflow: Workflow[ResultT],
    settings: ComfyUISettings,
    options: RunOptions,
    modules: Iterable[str],
) -> tuple[RunPlan[ResultT], dict[str, InputFile]]:
    """Return what a run does, and its input files; nothing is sent yet."""
    with importing():  # before there are threads that would import it
        for name in (*_OF_RUNS, *modules):
            importlib.import_module(name)
    from comfyloom._workflow.run_plan import plan_of
    from comfyloom._workflow.validation import validate

    given: dict[str, Any] = {**options, "api_key": settings.api_key_comfy_org}
    if given.get("keep_all") is None:
        given["keep_all"] = settings.keep_all
    plan = plan_of(workflow, **given)
    files = plan.read_files()
    validate(workflow, plan.nodes)
    return plan, files


def _check_call(workflow: object, timeout: object) -> None:
    """Refuse wrong arguments before anything is uploaded or launched."""
    if not isinstance(workflow, Workflow):
        name = getattr(workflow, "__name__", "")
        given = f"{name}: pass {name}(…)" if name else type(workflow).__name__
        raise WorkflowError(f"expected a workflow instance, got {given}")

    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is None or (is_number and timeout >= 0):  # type: ignore[operator]  # pyright: ignore
        return
    raise ConfigError(f"timeout must be a number of seconds, or None for no limit, got {timeout!r}")


def _in_order(
    submit: Callable[..., Run[ResultT]],
    workflows: Iterable[Workflow[ResultT]],
    concurrency: int,
    out_dir: str | os.PathLike[str] | None,
    on_progress: ProgressCallback,
) -> Iterator[ResultT]:
    under_way: deque[Run[ResultT]] = deque()
    try:
        for number, workflow in enumerate(workflows):
            folder = None if out_dir is None else Path(out_dir, f"{number:03}")
            under_way.append(submit(workflow, out_dir=folder))
            if len(under_way) >= max(1, concurrency):
                yield under_way.popleft().wait(on_progress=on_progress)
        while under_way:
            yield under_way.popleft().wait(on_progress=on_progress)
    finally:
        Run.cancel_all(under_way)
