"""A run that was submitted: watch it, wait for it, cancel it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._core.waiting import Deadline
from comfyloom._workflow.workflow import Result
from comfyloom.errors import RunCancelled, RunTimeout
from comfyloom.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from comfyloom._session.execution import Execution

ResultT = TypeVar("ResultT", bound=Result)

Status: TypeAlias = Literal["queued", "running", "downloading", "succeeded", "failed", "cancelled"]

UNREAD_PREVIEWS: Final = 50
UNREAD: Final = 1000
"""So many events are kept for a reader that does not come."""
ITSELF_S: Final = 1.0
"""So long the thread of a run is left to cancel it; then the caller does as well."""
CANCEL_S: Final = 3.5
"""How long a caller who leaves waits for the server to confirm that the run is cancelled."""


class Run(Generic[ResultT]):
    """One run; made by `RunComfySession.submit`.

    It goes on in a thread of its own. Everything here may be called from any thread.
    """

    def __init__(
        self,
        start: Callable[[ProgressCallback], Execution[ResultT]],
        timeout_s: float | None,
        manager: object = None,
    ) -> None:
        self._queue: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self._latest = Progress(kind="queued", message="submitting")
        self._status: Status = "queued"
        self._ended = threading.Event()
        self._result: ResultT | None = None
        self._error: BaseException | None = None
        self._given_up = False
        self._manager = manager  # a session that nobody else holds must not close under the run
        execution = start(self._report)
        self._execution: Execution[ResultT] | None = execution
        self._id = execution.prompt_id
        self._deadline = Deadline.after(timeout_s, execution.server.clock)
        self._patience: Deadline | None = None
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
    def status(self) -> Status:
        """Where the run is."""
        return self._status

    @property
    def progress(self) -> Progress:
        """What happened last."""
        return self._latest

    def events(self) -> Iterator[Progress]:
        """Yield what happens, from the beginning, until the run has ended.

        Each event is yielded once: two iterators share them.
        """
        while (progress := self._queue.get()) is not None:
            yield progress
        self._queue.put(None)  # so that a later iterator ends as well

    def wait(
        self, timeout: float | None = None, *, on_progress: ProgressCallback | None = None
    ) -> ResultT:
        """Block until the run has ended, and return its result; all its files are local then.

        Args:
            timeout: Seconds to wait at most; then the run is cancelled.
            on_progress: Called in this thread with what happens. An exception in it is logged
                and does the run no harm.

        Raises:
            RunError: The run gave no result; `RunTimeout` when the time was over.
            ComfyloomError: Anything else that kept it from one.
        """
        deadline = Deadline.after(timeout)
        try:
            if not self._await_end(deadline, on_progress):
                self.cancel()
                raise RunTimeout(prompt_id=self.id)
        except (KeyboardInterrupt, SystemExit):
            # Somebody leaves: the GPU must not go on working for nobody.
            self.cancel()
            raise
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def cancel(self) -> None:
        """Cancel the run, and wait a few seconds for the server to confirm it.

        A run that has ended is left as it is.
        """
        cancel_all([self])

    def ask_to_cancel_(self) -> Deadline:
        """Ask for the run to be cancelled, and return until when that is worth waiting for."""
        if (execution := self._execution) is not None:
            execution.cancel()
        self._patience = self._patience or Deadline.after(CANCEL_S)
        return self._patience

    def cancel_here_(self) -> None:
        """Ask the server to cancel the run, in this thread: its own may hang in a request."""
        if (execution := self._execution) is not None:
            execution.cancel_here()

    def give_up_(self) -> None:
        """Say, once, that nobody knows what has become of the run."""
        if not self._given_up:
            self._given_up = True
            log.warning("run %s may go on: the server has not confirmed its end", self.id)

    def has_ended_(self, within_s: float) -> bool:
        """Return whether the run ends within so many seconds."""
        return self._ended.wait(within_s)

    def _await_end(self, deadline: Deadline, on_progress: ProgressCallback | None) -> bool:
        if on_progress is None:
            return self._ended.wait(_bounded(deadline))
        tell = SafeCallback(on_progress)
        while (progress := self._next(deadline)) is not None:
            tell(progress)
        return self._ended.wait(0.0 if deadline.over else None)

    def _next(self, deadline: Deadline) -> Progress | None:
        if deadline.over:  # a callback that is slower than the events would never come to an end
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
            self._result = execution.run(self._deadline)
            self._status = "succeeded"
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever waits
            self._error = error
            self._status = "cancelled" if isinstance(error, RunCancelled) else "failed"
        finally:
            # The execution refers to this run: without this the two, and the files of its result,
            # would live on until the garbage collector finds them.
            self._id = execution.prompt_id
            self._execution = None
            self._ended.set()
            self._queue.put(None)

    def _report(self, progress: Progress) -> None:
        self._latest = progress
        if progress.kind == "download":
            self._status = "downloading"
        elif progress.kind in ("started", "node", "step", "silent"):
            self._status = "running"
        if progress.preview is not None and self._queue.qsize() > UNREAD_PREVIEWS:
            return  # nobody reads, and pictures are large
        self._queue.put(progress)
        if self._queue.qsize() > UNREAD:  # nobody reads: keep the latest, drop the oldest
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()


def cancel_all(runs: Iterable[Run[Any]]) -> None:
    """Cancel runs, all at once, and wait a few seconds in all for the server to confirm it."""
    asked = [(run, run.ask_to_cancel_()) for run in runs]
    for run, patience in asked:
        while not run.has_ended_(min(ITSELF_S, patience.remaining_s)):
            run.cancel_here_()
            if patience.over:
                run.give_up_()
                break


def _bounded(deadline: Deadline) -> float | None:
    """Return the time to wait as the threads of this platform can take it."""
    return None if deadline.at is None else min(deadline.remaining_s, threading.TIMEOUT_MAX)


class SafeCallback:
    """Calls a callback; an exception in it does no harm, and the first one is logged in full."""

    def __init__(self, on_progress: ProgressCallback) -> None:
        self._on_progress = on_progress
        self._failed = 0

    def __call__(self, progress: Progress) -> None:
        """Tell the callback of something that happened."""
        try:
            self._on_progress(progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not worth a run
            self._failed += 1
            if self._failed == 1:
                log.exception("a progress callback failed; it is called on, and this told once")
            else:
                log.debug("a progress callback failed again: %s", type(error).__name__)
