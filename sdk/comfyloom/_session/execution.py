"""One run on one server, step by step."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final, Generic, TypeVar

import attrs

from comfyloom._backends.base import Backend
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.run_watcher import RunWatcher
from comfyloom._comfyui.submit import Submission
from comfyloom._core.redact import log
from comfyloom._session.collecting import Collector
from comfyloom._session.event_notes import EventNotes, NotingListener
from comfyloom._session.progress_reporter import ProgressReporter
from comfyloom._session.run_report import RunReport
from comfyloom._session.run_server import RunServer
from comfyloom._session.saving_again import SavingAgain
from comfyloom._session.staging import StagingDir
from comfyloom._workflow.files import InputFile
from comfyloom._workflow.graph import Graph
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.run_plan import RunPlan
from comfyloom._workflow.workflow import Result
from comfyloom.errors import (
    ApiError,
    InputFileError,
    OutputGone,
    OutputMissing,
    PromptRejected,
    RunCancelled,
    RunFailed,
    RunLost,
    RunTimeout,
    TransportError,
)
from comfyloom.progress import ProgressCallback

ResultT = TypeVar("ResultT", bound=Result)

_BAD_REQUEST: Final = 400


@attrs.define(eq=False)
class SubmissionTicket:
    """FIFO ticket: a run submits only after all earlier ones submitted or failed."""

    _before: SubmissionTicket | None = None
    _is_over: threading.Event = attrs.field(factory=threading.Event, init=False)

    @classmethod
    def after(cls, last: SubmissionTicket | None) -> SubmissionTicket:
        """Return the ticket after `last`, or the first one."""
        while last is not None and last._is_over.is_set():
            last = last._before
        return cls(last)

    def wait(self, scope: CancelScope, check_every_s: float) -> None:
        """Wait until this run may submit, or until the scope, which is checked, ends it."""
        scope.checkpoint()
        while (before := self._before) is not None:
            if before._is_over.wait(check_every_s):
                self._before = before._before
            scope.checkpoint()

    def end(self) -> None:
        """Let the next run submit."""
        self._is_over.set()


@attrs.define(eq=False)
class Execution(Generic[ResultT]):
    """Connects, uploads, submits, watches and downloads one run.

    Args:
        plan: What to run.
        files: Its input files.
        seeds: The drawn seeds.
        backend: Where it runs.
        connect: As `SessionLifetime.connect`, for this workflow.
        staging: Where its files are written first.
        ticket: Its turn to submit.
        timeout_s: Seconds it may take on its server, None for no limit.
        report: Called with its progress.
    """

    plan: RunPlan[ResultT]
    files: Mapping[str, InputFile]
    seeds: Mapping[str, int]
    backend: Backend
    connect: Callable[..., ComfyUI]
    staging: StagingDir
    ticket: SubmissionTicket
    timeout_s: float | None
    report: ProgressCallback
    prompt_id: str = attrs.field(factory=lambda: str(uuid.uuid4()), init=False)
    where: RunServer = attrs.field(init=False)
    _scope: CancelScope = attrs.field(init=False)
    _is_accepted: bool = attrs.field(default=False, init=False)
    _notes: EventNotes = attrs.field(factory=EventNotes, init=False)
    _report: RunReport = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        name = self.plan.workflow.__workflow__.name
        self._report = RunReport(self.backend, name, self.report)
        self._scope = CancelScope(timed_out=partial(RunTimeout, prompt_id=self.prompt_id))
        self.where = RunServer(self.backend, self.connect, self._scope, self.timeout_s)

    @property
    def server(self) -> ComfyUI:
        """Where it runs, once it is connected."""
        assert self.where.current is not None
        return self.where.current

    def cancel(self) -> None:
        """Cancel the run; `run` then raises `RunCancelled`."""
        self._scope.cancel(RunCancelled("the run was cancelled", prompt_id=self.prompt_id))

    def cancel_on_server(self) -> None:
        """Cancel from the caller's thread: the run's thread may hang in a request."""
        if self.where.current is None:
            return
        try:
            self.server.cancel(self.prompt_id)
        except (TransportError, ApiError) as error:
            log.debug("cancelling: %s", error)

    def run(self) -> ResultT:
        """Do all steps and return the result.

        Raises:
            RunError: The run gave no result.
            MachineError: There is no machine, or it has ended.
            ApiError, TransportError: A server refuses a request, or is unreachable.
            OutputNotWritable: A result cannot be written.
            InputFileError: The server does not accept a file, or it has changed since.
        """
        try:
            entry = self._accepted_by_a_living_server()
            try:
                return self._collect(entry)
            except OutputGone as gone:
                return self._collect(self._run_savers_again(entry, gone))
        except OutputMissing as missing:
            if reason := self._notes.explanation(missing.node):
                facts = {"prompt_id": missing.prompt_id, "field": missing.field}
                text = f"{missing}: {reason}"
                raise type(missing)(text, node=missing.node, **facts) from None
            raise
        except (TransportError, ApiError):
            self._scope.checkpoint()
            self.where.check_alive()
            raise
        finally:
            self.ticket.end()
            self.staging.close()

    def _accepted_by_a_living_server(self) -> HistoryEntry:
        """Run the graph; on another machine if this one is gone before it accepted the prompt."""
        self.where.find(self.report)
        self._report.begin()
        try:
            return self._submit_and_wait()
        except (TransportError, ApiError, RunLost) as failure:
            self._scope.checkpoint()
            if self._is_accepted or not self.where.leave(failure, self.report):
                raise
        return self._submit_and_wait()

    def _submit_and_wait(self) -> HistoryEntry:
        """Run the graph; once more, with its files sent again, if the server has lost them."""
        uploads = self.server.uploads
        known = {name for file in self.files.values() if (name := uploads.known(file))}
        known |= {file.folder for file in self.files.values() if file.folder}
        try:
            return self._run_graph(self._graph())
        except PromptRejected as refused:
            if not any(name in json.dumps(refused.node_errors, default=str) for name in known):
                raise
            self._forget_uploads()
            if refused.status != _BAD_REQUEST:  # it ran in part: do not submit it again
                raise
            log.info("the server has lost files of earlier runs; sending them again")
        return self._run_graph(self._graph())

    def _graph(self) -> Graph:
        names = {field: self._uploaded(field, file) for field, file in self.files.items()}
        return self.plan.graph(names, self.seeds)

    def _uploaded(self, field: str, file: InputFile) -> str:
        """Return the server's name for a file, sending it if needed."""
        uploads = self.server.uploads
        if (known := uploads.known(file)) is not None:
            return known
        self._report.say("upload", f"uploading {field}")
        try:
            return uploads.put(file, self._scope)
        except InputFileError as error:
            raise InputFileError(f"{field}: {error}") from None

    def _forget_uploads(self) -> None:
        for file in self.files.values():
            self.server.uploads.forget(file)

    def _run_graph(self, graph: Graph) -> HistoryEntry:
        """Open the event socket, submit a graph, and wait for its end."""
        self._notes.begin(graph)
        progress = ProgressReporter(graph, self.plan.workflow, self._report.say)
        reporter = NotingListener(progress, self._notes)
        # Not stored: it refers to this run, and the cycle would keep its files alive.
        watcher = RunWatcher(self.server, self.prompt_id, self._scope, reporter, self.backend)
        router = self.server.event_router
        ours = self.prompt_id
        with ExitStack() as stack:
            stack.callback(self.server.queue_size.ended, ours)
            stack.enter_context(router.listening(ours, watcher.deliver))
            reporter.on_queued(0)
            self.ticket.wait(self._scope, self.server.timeouts.turn_s)
            ids = router.client_id, self.prompt_id
            fields = self.plan.fields.body(GraphView(graph, self.plan.schemas))
            submission = Submission(self.server, graph, *ids, self._scope, fields=fields)
            prompt_id = submission.send()
            self._is_accepted = True
            self.server.accepted.add(prompt_id)
            stack.callback(self.server.accepted.discard, prompt_id)
            if prompt_id != self.prompt_id:  # an old server draws its own
                router.rename(self.prompt_id, prompt_id)
                self.prompt_id = watcher.prompt_id = prompt_id
                self._scope.timed_out = partial(RunTimeout, prompt_id=prompt_id)
            self.ticket.end()
            entry = watcher.wait()
        if (error := entry.error()) is not None:
            if isinstance(error, RunFailed) and error.node in self.plan.loaders:
                self._forget_uploads()  # a missing file may be the cause
            raise error
        return entry

    def _run_savers_again(self, entry: HistoryEntry, gone: OutputGone) -> HistoryEntry:
        """Make the server save once more what it has in its cache and whose files were deleted.

        Returns:
            The entry of the first run, with the files of the second.

        Raises:
            OutputGone: That would generate a second time, and `fresh` does not allow it.
        """
        savers = [spec.node for spec in self.plan.outputs if spec.is_file]
        fresh = self.plan.fresh
        again = SavingAgain.of(self._graph(), savers, entry, gone, fresh=fresh)
        log.info("the server has deleted files of an earlier run; saving them again")
        if again.needs_free:
            self.server.free()
        self.prompt_id = str(uuid.uuid4())
        self._scope.timed_out = partial(RunTimeout, prompt_id=self.prompt_id)
        second = self._run_graph(again.graph)
        outputs = {**entry.outputs, **second.outputs}
        return attrs.evolve(second, outputs=outputs)

    def _collect(self, entry: HistoryEntry) -> ResultT:
        """Download the wanted results, and return all that the run gave."""
        spec, outputs = self.plan.workflow.__workflow__, self.plan.outputs
        unwanted = [each for each in spec.outputs if each.required and each not in outputs]
        collector = Collector(
            self.server,
            self.staging,
            self._scope,
            self._notes.images,
            begin=lambda item: self._report.say("download", f"downloading {item.name}"),
        )
        fields = collector.fields(entry, outputs)
        result = spec.result(
            prompt_id=self.prompt_id,
            seeds=dict(self.seeds),
            seconds=self._report.elapsed_s,
            ui=entry.outputs,
            **{each.name: () if each.many else None for each in unwanted},
            **fields,
        )
        self._report.finish()
        return result  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
