"""Starting the runs of a session."""

from __future__ import annotations

import os
import random
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from comfyloom._backends.base import Backend
from comfyloom._session.run import Run
from comfyloom._session.staging import StagingDir
from comfyloom._workflow import run_values
from comfyloom._workflow.workflow import Result
from comfyloom.errors import ComfyloomError

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._session.execution import SubmissionTicket
    from comfyloom._workflow.files import InputFile
    from comfyloom._workflow.run_plan import RunPlan

ResultT = TypeVar("ResultT", bound=Result)

# Some nodes take no larger one. A seed that was drawn for one workflow fits every other.
_SEED_BOUND: Final = 2**31


@attrs.define(eq=False)
class RunStarter:
    """Starts runs, whose prompts reach the server in the order of the calls."""

    _backend: Backend
    # A list, because threads may append to it while another takes a snapshot.
    _runs: list[weakref.ref[Run[Any]]] = attrs.field(
        factory=list[weakref.ref[Run[Any]]], init=False
    )
    _is_closed: bool = attrs.field(default=False, init=False)
    _last: SubmissionTicket | None = attrs.field(default=None, init=False)
    # A signal handler may submit, too: hence re-entrant.
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    def after_fork(self) -> None:
        """Forget the parent's runs."""
        self._runs, self._last, self._lock = [], None, threading.RLock()

    def start(
        self,
        plan: RunPlan[ResultT],
        files: Mapping[str, InputFile],
        connect: Callable[..., ComfyUI],
        timeout_s: float | None,
        out_dir: str | os.PathLike[str] | None,
        *,
        owner: object,
    ) -> Run[ResultT]:
        """Start a checked run.

        Args:
            plan: What to run.
            files: Its input files.
            connect: As `SessionLifetime.connect`, for its workflow.
            timeout_s: Seconds it may take on its server, None for no limit.
            out_dir: The folder for its results, None for a temporary one.
            owner: Kept alive by the run.

        Raises:
            ComfyloomError: The system has no thread left for it, or all runs were cancelled.
        """
        from comfyloom._session.execution import Execution, SubmissionTicket

        staging = StagingDir(out_dir)
        with self._lock:
            self._last = ticket = SubmissionTicket.after(self._last)
        execution = partial(
            Execution[ResultT],
            plan,
            files,
            run_values.draw_seeds(plan.workflow, _draw_seed),
            self._backend,
            connect,
            staging,
            ticket,
            timeout_s,
        )
        try:
            run = Run[ResultT](execution, owner=owner)
        except BaseException as error:
            ticket.end()
            staging.close()
            if isinstance(error, RuntimeError):  # the system has no more threads
                raise ComfyloomError(f"cannot start the run: {error}") from None
            raise
        with self._lock:
            self._runs = [each for each in self._runs if each() is not None]
            self._runs.append(weakref.ref(run))
        if self._is_closed:  # meanwhile, in another thread: `cancel_all` may have missed it
            run.cancel()
            raise ComfyloomError("this session is closed")
        return run

    def cancel_all(self) -> None:
        """Cancel all runs that still exist, and those that are just being started.

        It takes no lock: a signal handler may call it while its own thread starts a run.
        """
        self._is_closed = True
        Run.cancel_all([run for each in tuple(self._runs) if (run := each()) is not None])


def _draw_seed(bound: int) -> int:
    # The system's randomness: forked processes must draw different seeds.
    return random.SystemRandom().randrange(min(bound + 1, _SEED_BOUND))
