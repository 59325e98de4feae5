"""A run that was submitted: watch it, wait for it, cancel it."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._core.waiting import Deadline
from comfyloom._workflow.workflow import Result
from comfyloom.errors import ConfigError, RunCancelled, RunTimeout
from comfyloom.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from comfyloom._session.execution import Execution

ResultT = TypeVar("ResultT", bound=Result)

RunStatus: TypeAlias = Literal[
    "starting", "queued", "running", "downloading", "succeeded", "failed", "cancelled"
]
"""`starting` until its server answers: a machine may have to be launched."""

UNREAD_PREVIEWS: Final = 50
UNREAD: Final = 1000
"""Unread events kept; the oldest are dropped."""


class Run(Generic[ResultT]):
    """One run; made by `RunComfySession.submit`.

    It runs in its own thread. Every method may be called from any thread.
    """

    def __init__(
        self, start: Callable[[ProgressCallback], Execution[ResultT]], owner: object = None
    ) -> None:
        self._queue: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self._latest = Progress(kind="machine", message="starting")
        self._status: RunStatus = "starting"
        self._ended = threading.Event()
        self._result: ResultT | None = None
        self._error: BaseException | None = None
        self._owner = owner  # keeps the session alive
        execution = start(self._report)
        self._execution: Execution[ResultT] | None = execution
        self._id = execution.prompt_id
        self._timeouts = execution.backend.timeouts
        self._cancel_deadline: Deadline | None = None
        self._is_unconfirmed = False
        self._pid = os.getpid()
        self._thread = daemon_thread(self._work, "run")
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Run {self.id} {self._status}>"

    @property
    def id(self) -> str:
        """The run's id on the server (`prompt_id`)."""
        execution = self._execution
        return self._id if execution is None else execution.prompt_id

    @property
    def status(self) -> RunStatus:
        """The state of the run."""
        return self._status

    @property
    def progress(self) -> Progress:
        """The latest progress."""
        return self._latest

    def events(self) -> Iterator[Progress]:
        """Yield progress from the start to the end of the run.

        Each event is yielded once: two iterators share them.

        Raises:
            ConfigError: The run belongs to another process.
        """
        self._demand_own()
        while (progress := self._queue.get()) is not None:
            yield progress
        self._queue.put(None)  # ends later iterators, too

    def wait(
        self, timeout: float | None = None, *, on_progress: ProgressCallback | None = None
    ) -> ResultT:
        """Block until the run has ended, and return its result; all its files are local then.

        Args:
            timeout: Longest wait, in seconds; then the run is cancelled.
            on_progress: Called in this thread with each progress event. An exception in it is
                logged and does not affect the run.

        Raises:
            RunError: The run gave no result; `RunTimeout` at the timeout.
            ConfigError: The run belongs to another process.
            ComfyloomError: Anything else that prevented a result.
        """
        self._demand_own()
        deadline = Deadline.after(timeout)
        try:
            if not self._await_end(deadline, on_progress):
                self.cancel()
                raise RunTimeout(prompt_id=self.id)
        except (KeyboardInterrupt, SystemExit):
            # The caller leaves: the GPU must not continue.
            self.cancel_all([self])
            raise
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def cancel(self) -> None:
        """Cancel the run, unless it has ended; wait a few seconds for the confirmation.

        Raises:
            ConfigError: The run belongs to another process.
        """
        self._demand_own()
        self.cancel_all([self])

    @staticmethod
    def cancel_all(runs: Iterable[Run[Any]]) -> None:
        """Cancel runs together, and wait a few seconds in all for the confirmations."""
        # A forked child that leaves does not cancel the runs of its parent.
        own = [run for run in runs if run._pid == os.getpid()]
        requested = [(run, run._request_cancel()) for run in own]
        for run, deadline in requested:
            while not run._ended.wait(min(run._timeouts.run_cancel_s, deadline.remaining_s)):
                if (execution := run._execution) is not None:
                    execution.cancel_on_server()
                if deadline.over:
                    if not run._is_unconfirmed:  # warn once
                        run._is_unconfirmed = True
                        text = "run %s may still be running: the server has not confirmed its end"
                        log.warning(text, run.id)
                    break

    def _demand_own(self) -> None:
        """Refuse a run under way in the process that this one was forked from."""
        if os.getpid() != self._pid and not self._ended.is_set():
            raise ConfigError(
                "this run belongs to another process, from which this one was forked: start runs "
                "in the process that waits for them"
            )

    def _request_cancel(self) -> Deadline:
        """Request a cancel, and return the deadline of its confirmation."""
        if (execution := self._execution) is not None:
            execution.cancel()
        if self._cancel_deadline is None:
            self._cancel_deadline = Deadline.after(self._timeouts.leave_cancel_s)
        return self._cancel_deadline

    def _await_end(self, deadline: Deadline, on_progress: ProgressCallback | None) -> bool:
        if on_progress is None:
            return self._ended.wait(_bounded(deadline))
        report = SafeCallback(on_progress)
        while (progress := self._next(deadline)) is not None:
            report(progress)
        return self._ended.wait(0.0 if deadline.over else None)

    def _next(self, deadline: Deadline) -> Progress | None:
        if deadline.over:  # a callback slower than the events would never finish
            return None
        try:
            found = self._queue.get(timeout=_bounded(deadline))
        except queue.Empty:
            return None
        if found is None:
            self._queue.put(None)
        return found

    def _work(self) -> None:
        execution = self._execution
        assert execution is not None
        try:
            self._result = execution.run()
            self._status = "succeeded"
        except BaseException as error:  # noqa: BLE001 - `wait` raises it again
            self._error = error
            self._status = "cancelled" if isinstance(error, RunCancelled) else "failed"
        finally:
            # The execution refers to this run: break the cycle, which keeps the result's files.
            self._id = execution.prompt_id
            self._execution = None
            self._ended.set()
            self._queue.put(None)

    def _report(self, progress: Progress) -> None:
        self._latest = progress
        if progress.kind in ("upload", "queued"):
            self._status = "queued"
        elif progress.kind == "machine":
            self._status = "starting"
        elif progress.kind == "download":
            self._status = "downloading"
        elif progress.kind in ("started", "node", "step", "silent"):
            self._status = "running"
        if progress.preview is not None and self._queue.qsize() > UNREAD_PREVIEWS:
            return  # unread, and images are large
        self._queue.put(progress)
        if self._queue.qsize() > UNREAD:  # unread: drop the oldest
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()


def _bounded(deadline: Deadline) -> float | None:
    """Return the seconds left, at most what the platform's locks accept."""
    return None if deadline.at is None else min(deadline.remaining_s, threading.TIMEOUT_MAX)


class SafeCallback:
    """Calls a callback; exceptions in it are logged, the first one in full."""

    def __init__(self, on_progress: ProgressCallback) -> None:
        self._on_progress = on_progress
        self._failed = 0

    def __call__(self, progress: Progress) -> None:
        """Pass progress to the callback."""
        try:
            self._on_progress(progress)
        except Exception as error:  # noqa: BLE001 - a failing callback must not end the run
            self._failed += 1
            if self._failed == 1:
                log.exception(
                    "a progress callback failed; it is still called, and this is logged once"
                )
            else:
                log.debug("a progress callback failed again: %s", type(error).__name__)
