"""One run on one server, step by step."""

from __future__ import annotations

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import attrs

from comfyloom._backends.base import Backend
from comfyloom._comfyui import downloads
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.run_watcher import PollSchedule, RunWatcher
from comfyloom._comfyui.submit import Submission
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline
from comfyloom._session.eta import EtaEstimator, Timings
from comfyloom._session.progress_reporter import ProgressReporter
from comfyloom._session.staging import StagingDir
from comfyloom._workflow import run_values
from comfyloom._workflow.files import InputFile
from comfyloom._workflow.graph import Graph
from comfyloom._workflow.outputs import OUTPUT_TYPES, Output
from comfyloom._workflow.workflow import Result, Workflow
from comfyloom.errors import (
    ApiError,
    InputFileError,
    PromptRejected,
    RunCancelled,
    RunFailed,
    RunTimeout,
    TransportError,
)
from comfyloom.progress import Kind, Progress, ProgressCallback

ResultT = TypeVar("ResultT", bound=Result)

TURN_S: Final = 0.2
_BAD_REQUEST: Final = 400


@attrs.define(eq=False)
class SubmissionTicket:
    """FIFO ticket: a run submits only after all earlier ones submitted or failed.

    It is over when all before it are, too: one that fails early lets nobody overtake.
    """

    _before: SubmissionTicket | None = None
    _over: threading.Event = attrs.field(factory=threading.Event, init=False)

    def next(self) -> SubmissionTicket:
        """Return the turn after this one."""
        before: SubmissionTicket | None = self
        while before is not None and before._over.is_set():
            before = before._before
        return SubmissionTicket(before)

    def wait(self, check: Callable[[], object]) -> None:
        """Wait for the turn; `check` is called meanwhile, and ends it by raising."""
        check()
        while (before := self._before) is not None:
            if before._over.wait(TURN_S):
                self._before = before._before
            check()

    def end(self) -> None:
        """Let the next one submit."""
        self._over.set()


@attrs.define(eq=False)
class Execution(Generic[ResultT]):
    """Uploads, submits, watches and downloads one run.

    Args:
        workflow: What to run.
        files: Its input files, read.
        seeds: The seed of each seed field.
        server: Where to run it.
        backend: What the server is a part of.
        staging: Where its files go.
        turn: When it may be submitted.
        report: Told how it goes.
        schedule: How often to ask.
    """

    workflow: Workflow[ResultT]
    files: Mapping[str, InputFile]
    seeds: Mapping[str, int]
    server: ComfyUI
    backend: Backend
    staging: StagingDir
    turn: SubmissionTicket
    report: ProgressCallback
    schedule: PollSchedule = attrs.field(factory=PollSchedule)
    prompt_id: str = attrs.field(factory=lambda: str(uuid.uuid4()), init=False)
    _begun: float = attrs.field(default=0.0, init=False)
    _deadline: Deadline = attrs.field(factory=lambda: Deadline(None), init=False)
    _cancelled: threading.Event = attrs.field(factory=threading.Event, init=False)
    _watch: EtaEstimator | None = attrs.field(default=None, init=False)
    _started: float = attrs.field(default=0.0, init=False)
    _latest: Progress = attrs.field(factory=lambda: Progress(kind="upload"), init=False)
    _monitor: RunWatcher = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._begun = self.server.clock.monotonic()
        self._monitor = RunWatcher(
            self.server,
            self.prompt_id,
            still_there=self.backend.still_there,
            on_poll=self.backend.touch,
            schedule=self.schedule,
        )

    def cancel(self) -> None:
        """Ask for the run to be cancelled; `run` then raises `RunCancelled`."""
        self._cancelled.set()
        self._monitor.cancel()

    def cancel_here(self) -> None:
        """Ask the server to cancel in the caller's own thread: that of the run may hang."""
        try:
            self.server.cancel(self.prompt_id)
        except (TransportError, ApiError) as error:
            log.debug("cancelling: %s", error)

    def run(self, deadline: Deadline) -> ResultT:
        """Do it all and return the result.

        Raises:
            RunError: The run gave no result.
            MachineError: The machine has ended.
            ApiError: The server refuses something.
            TransportError: The server is out of reach.
            OutputNotWritable: A result cannot be written.
            InputFileError: The server does not take a file, or it has changed meanwhile.
        """
        self._deadline = deadline
        try:
            return self._collect(self._submitted(deadline))
        except (TransportError, ApiError):
            self._check()
            self.backend.still_there()
            raise
        finally:
            self.turn.end()
            self.staging.close()
            # The monitor tells this object of events: a circle that would keep the files of the
            # result until the garbage collector comes.
            self._monitor.forget_listeners()

    def _check(self) -> float:
        """Return the seconds that are left; raise when none are, or the run was cancelled."""
        if self._cancelled.is_set():
            raise RunCancelled("the run was cancelled", prompt_id=self.prompt_id)
        if self._deadline.over:
            raise RunTimeout(prompt_id=self.prompt_id)
        return self._deadline.remaining_s

    def _graph(self) -> Graph:
        names = {field: self._uploaded(field, file) for field, file in self.files.items()}
        return run_values.run_graph(self.workflow, files=names, seeds=self.seeds)

    def _uploaded(self, field: str, file: InputFile) -> str:
        """Return the server's name of a file, sending it if it is not there."""
        uploads = self.server.uploads
        if (known := uploads.known(file)) is not None:
            return known
        self._say("upload", f"uploading {field}")
        try:
            return uploads.put(file, self._check)
        except InputFileError as error:
            raise InputFileError(f"{field}: {error}") from None

    def _forget_uploads(self) -> None:
        for file in self.files.values():
            self.server.uploads.forget(file)

    def _takes_a_file(self, node: str) -> bool:
        inputs = self.workflow.__workflow__.inputs
        return any(
            target.node == node for spec in inputs if spec.is_file for target in spec.targets
        )

    def _submitted(self, deadline: Deadline) -> HistoryEntry:
        """Run the graph; once more with its files sent anew if the server has lost them."""
        uploads = self.server.uploads
        before = {name for file in self.files.values() if (name := uploads.known(file))}
        try:
            return self._watched(self._graph(), deadline)
        except PromptRejected as refused:
            if not any(name in json.dumps(refused.node_errors, default=str) for name in before):
                raise
            self._forget_uploads()
            if refused.status != _BAD_REQUEST:  # it ran in part, so it is not submitted again
                raise
            log.info("the server has lost files of earlier runs; they are sent again")
        return self._watched(self._graph(), deadline)

    def _watched(self, graph: Graph, deadline: Deadline) -> HistoryEntry:
        """Submit a graph with the event socket open before it, and wait for the end."""
        narrator = ProgressReporter(graph, self.workflow, self._say)
        self._monitor.on_event = narrator.tell
        self._monitor.on_queued = narrator.queued
        self._monitor.on_running = narrator.running
        self._monitor.on_silent = narrator.silent
        channel = self.server.channel
        with channel.listening(self.prompt_id, self._monitor.deliver):
            narrator.queued(0)
            self.turn.wait(self._check)
            submission = Submission(
                self.server, graph, channel.client_id, self.prompt_id, check=self._check
            )
            self._adopt(submission.send())
            self.turn.end()
            entry = self._monitor.wait(deadline)
        if (error := entry.error()) is not None:
            if isinstance(error, RunFailed) and self._takes_a_file(error.node):
                self._forget_uploads()  # that one of them is gone may be why
            raise error
        return entry

    def _adopt(self, prompt_id: str) -> None:
        """Follow the run under the id that the server gave it, where it does not take ours."""
        if prompt_id != self.prompt_id:
            self.server.channel.rename(self.prompt_id, prompt_id)
            self.prompt_id = self._monitor.prompt_id = prompt_id

    def _collect(self, entry: HistoryEntry) -> ResultT:
        """Download every output, then publish them all at once."""
        specs = self.workflow.__workflow__.outputs
        told = downloads.reported(entry, specs)
        wanted = downloads.plan(entry, specs)
        paths = downloads.fetch_all(
            self.server,
            wanted,
            self.staging.folder,
            self.prompt_id,
            check=self._check,
            begin=lambda item: self._say("download", f"downloading {item.name}"),
        )
        wanted = [item for item in wanted if item.name in paths]
        published = self.staging.publish([paths[item.name] for item in wanted])
        result = self.workflow.__workflow__.result(
            prompt_id=self.prompt_id,
            seeds=dict(self.seeds),
            seconds=self.server.clock.monotonic() - self._begun,
            ui=entry.outputs,
            **told,
            **self._outputs(wanted, published),
        )
        self._narrate_end()
        return result  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def _outputs(self, wanted: list[downloads.Download], paths: list[Path]) -> dict[str, Any]:
        """Return the files by field; a field that holds many gets them as a tuple."""
        found: defaultdict[str, list[Output]] = defaultdict(list)
        for item, path in zip(wanted, paths, strict=True):
            found[item.spec.name].append(OUTPUT_TYPES[item.spec.kind](path, self.staging))
        many = {item.spec.name for item in wanted if item.spec.many}
        return {name: tuple(each) if name in many else each[0] for name, each in found.items()}

    def _narrate_end(self) -> None:
        stages = {stage.name: 1.0 for stage in self.workflow.__workflow__.stages}
        self._say("finished", "finished", fraction=1.0, stages=stages)
        if self._watch is not None:
            self._watch.stop(self.server.clock.monotonic() - self._started)

    def _say(self, kind: Kind, message: str, **facts: Any) -> None:
        """Report something; how far the run is stays as it was where that is not said."""
        self.backend.touch()
        known: dict[str, Any] = {"fraction": self._latest.fraction, "stages": self._latest.stages}
        now = self.server.clock.monotonic()
        facts = known | facts | {"eta_s": self._eta_s(kind, facts, now)}
        self._latest = Progress(kind=kind, message=message, elapsed_s=now - self._begun, **facts)
        self.report(self._latest)

    def _eta_s(self, kind: Kind, facts: Mapping[str, Any], now: float) -> float | None:
        """Return the seconds that are left by the times of earlier runs, None before it runs."""
        if self._watch is None:
            if kind != "started":
                return None
            timings = Timings.of(self.workflow.__workflow__.name, self.backend.timings_key)
            self._watch, self._started = EtaEstimator(timings), now
        fraction = facts.get("fraction", self._latest.fraction)
        if kind == "started":
            self._watch.note_cached(fraction)
        return self._watch.note(fraction, now - self._started)
