"""Watching one run until it has ended, by event socket and polling.

Events are hints, history is authoritative. `executing {node: null}` ends every run, and history is
complete when it arrives; `execution_success` comes a little earlier and only hastens the next poll.
Reads of the queue are shared by all runs on a server.
"""

from __future__ import annotations

import queue
from typing import Any, Final, Protocol, TypeAlias

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.jobs_api import JobState
from comfyloom._comfyui.poll_schedule import LATER, Poll, PollSchedule, RunPhase
from comfyloom._comfyui.run_lookup import Queued, RunLookup, look_every_s
from comfyloom._comfyui.silence import SilenceWatch
from comfyloom._comfyui.websocket import ConnectionLost, SocketMessage
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    RunCancelled,
    RunLost,
    RunTimeout,
    TransportError,
)

_ENDING: Final = frozenset({"execution_success", "execution_error", "execution_interrupted"})
_AT_ONCE: Final = 200


class RunListener(Protocol):
    """Is notified of what happens to a run, in the thread that watches it."""

    def on_event(self, event: ServerEvent) -> None:
        """An event of this run arrived."""
        ...

    def on_queued(self, position: int) -> None:
        """The run waits behind `position` other runs."""
        ...

    def on_running(self) -> None:
        """The queue shows that the run is running, before any event did."""
        ...

    def on_silent(self, seconds: float) -> None:
        """The run is running, but sent no event for this long."""
        ...


class Liveness(Protocol):
    """The server that a watched run depends on."""

    def touch(self) -> None:
        """Keep the server alive: it is in use."""
        ...

    def check_alive(self, server: ComfyUI) -> None:
        """Raise `MachineError` if the server has ended for good."""
        ...


class _Wake:
    """Put into the inbox to make the watcher check its scope."""


_Inbox: TypeAlias = "queue.SimpleQueue[SocketMessage | _Wake]"


@attrs.define(eq=False)
class RunWatcher:
    """Follows one prompt.

    Args:
        listener: Is notified of what happens.
        liveness: Is touched at each poll, and checked when the server is unreachable.
    """

    server: ComfyUI
    prompt_id: str
    scope: CancelScope
    listener: RunListener
    liveness: Liveness
    _inbox: _Inbox = attrs.field(factory=lambda: queue.SimpleQueue[Any](), init=False)
    _schedule: PollSchedule = attrs.field(init=False)
    _silence: SilenceWatch = attrs.field(init=False)
    _is_cancelling: bool = attrs.field(default=False, init=False)
    _until: Deadline = attrs.field(factory=lambda: Deadline(None), init=False)
    # When the server last answered, and when its life was last checked.
    _reached: float = attrs.field(init=False)
    _checked: float = attrs.field(init=False)

    def deliver(self, message: SocketMessage) -> None:
        """Receive an event or the loss of the socket; called in the reader's thread."""
        self._inbox.put(message)

    def wait(self) -> HistoryEntry:
        """Block until the run has ended, and return its history.

        Raises:
            RunCancelled: The scope was cancelled, and the run is gone or has ended.
            RunTimeout: The scope's deadline has passed; the run was cancelled.
            RunLost: The server no longer knows the run.
            TransportError: The server stays unreachable.
        """
        now, timeouts = self._now(), self.server.timeouts
        self._schedule = PollSchedule(timeouts.polling, now)
        self._silence = SilenceWatch(timeouts.polling, self._is_connected())
        self._reached, self._checked = now, now - timeouts.polling.alive_s
        with self.scope.waking(lambda: self._inbox.put(_Wake())):
            entry = self._watch(self.scope.deadline)
        if entry is not None:
            if self._silence.never_heard:
                self.server.event_router.reconnect()
            return entry
        timed_out, silent_s = not self.scope.is_cancelled, self._silence_s()
        self._ensure_cancelled()
        if not timed_out:
            raise RunCancelled(prompt_id=self.prompt_id)
        text = f"the run timed out, and sent no event in its last {silent_s:.0f} s"
        is_silent = silent_s >= self._schedule.intervals.silent_s
        raise RunTimeout(text if is_silent else "", prompt_id=self.prompt_id)

    def _watch(self, deadline: Deadline) -> HistoryEntry | None:
        """Return the history of the ended run; None at the deadline, or once it is cancelled."""
        self._until = deadline
        while not (deadline.over or self._is_interrupted()):
            self._receive(min(self._next_poll(), deadline.at or LATER))
            if self._now() >= self._next_poll() and (entry := self._poll()) is not None:
                return entry
        return None

    # --- events ----------------------------------------------------------------------------------

    def _receive(self, until: float) -> None:
        """Wait for messages until a moment, and handle some: a flood must delay no poll."""
        try:
            message = self._inbox.get(timeout=max(0.0, until - self._now()))
            for _ in range(_AT_ONCE):
                self._take(message)
                message = self._inbox.get_nowait()
            self._take(message)
        except queue.Empty:
            return

    def _take(self, message: SocketMessage | _Wake) -> None:
        if isinstance(message, ConnectionLost):
            self._silence.socket_lost()
            self._schedule.socket_lost(self._now())
        elif isinstance(message, ServerEvent):
            self._take_event(message)

    def _take_event(self, event: ServerEvent) -> None:
        now = self._now()
        if event.type == "status":
            self._schedule.queue_changed(now, is_cancelling=self._is_cancelling)
        if event.prompt_id not in (self.prompt_id, None):
            return
        if event.prompt_id is not None:
            self._silence.event_arrived(now)
            self._schedule.event_arrived(now)
            if event.type == "executing" and event.node is None:
                self._schedule.run_ended(now)
            elif event.type in _ENDING:
                self._schedule.run_ending(now)
        try:
            self.listener.on_event(event)
        except Exception:  # noqa: BLE001 - a failing listener must not end the run
            log.exception("an event could not be reported")

    # --- polling ---------------------------------------------------------------------------------

    def _next_poll(self) -> float:
        return self._schedule.next_poll(self._now(), is_connected=self._is_connected())

    def _poll(self) -> HistoryEntry | None:
        """Poll the server; return the history of the ended run, None while it continues."""
        self._schedule.look_every_s = look_every_s(self.server, self._schedule.intervals)
        poll = self._schedule.begin_poll(self._now(), is_cancelling=self._is_cancelling)
        if poll is Poll.NOTHING:
            return None
        self.liveness.touch()
        entry = None
        try:
            entry = self._look() if poll is Poll.QUEUE else self._read_history()
            self._reached = self._now()
        except (TransportError, ApiError) as error:
            self._handle_unreachable(error)
        self._schedule.end_poll(self._now())
        return entry

    def _lookup(self) -> RunLookup:
        left_s = max(self.server.timeouts.last_look_s, self._until.remaining_s)
        timeout_s = min(self.server.timeouts.poll_s, left_s)
        limit = Deadline.after(left_s, self.server.clock)
        is_over = lambda: limit.over or self._is_interrupted()  # noqa: E731
        return RunLookup(self.server, self.prompt_id, timeout_s, is_over)

    def _is_interrupted(self) -> bool:
        return self.scope.is_cancelled and not self._is_cancelling

    def _read_history(self) -> HistoryEntry | None:
        lookup = self._lookup()
        entry = lookup.in_history()
        if entry is None and self._schedule.looks_seldom and lookup.is_queue_empty():
            self._count_miss()
        return entry

    def _look(self) -> HistoryEntry | None:
        oldest, lookup = self._schedule.begin_look(self._now()), self._lookup()
        by_job = self._schedule.look_every_s and self.server.jobs.can_find is not False
        match lookup.by_job() if by_job else lookup.in_queue(oldest):
            case HistoryEntry() as entry:
                return entry
            case Queued(ahead):
                self._schedule.found(RunPhase.WAITING)
                if ahead is not None:
                    self.listener.on_queued(ahead)
            case JobState.RUNNING:
                self._note_running()
            case JobState.ENDED:
                self._schedule.run_ended(self._now())  # since history was read
            case JobState.UNKNOWN:
                self._count_miss()
            case _:
                pass
        return None

    def _count_miss(self) -> None:
        if self._schedule.missed(self._now()):
            raise RunLost(prompt_id=self.prompt_id)

    def _note_running(self) -> None:
        """Report that the run is running, if no event did, and whether it is silent."""
        is_news = self._schedule.phase is not RunPhase.RUNNING
        self._schedule.found(RunPhase.RUNNING)
        if is_news:
            self._silence.run_started(self._now())
            self.listener.on_running()
        silent_s = self._silence_s()
        if self._silence.should_reconnect(silent_s):
            self.server.event_router.reconnect()
        if self._silence.should_report(silent_s):
            self.server.event_router.reconnect()
            self.listener.on_silent(silent_s)

    def _silence_s(self) -> float:
        return self._silence.seconds(self._now()) if self._is_connected() else 0.0

    def _handle_unreachable(self, error: Exception) -> None:
        is_first = self._checked < self._reached
        if is_first:
            log.warning("the run cannot be watched at the moment: %s", error)
        every = self._schedule.intervals
        if is_first or self._now() - self._checked >= every.alive_s:
            self._checked = self._now()
            self.liveness.check_alive(self.server)
        if self._now() - self._reached > every.give_up_s:
            self._cancel()  # the server may come back and go on with the run
            raise error

    # --- cancelling ------------------------------------------------------------------------------

    def _ensure_cancelled(self) -> None:
        """Cancel until the server confirms it or time is up; a single interrupt can get lost."""
        self._is_cancelling = True
        clock, every = self.server.clock, self._schedule.intervals
        deadline = Deadline.after(every.cancel_for_s, clock)
        try:
            while not deadline.over:
                self._cancel()
                if self._watch(Deadline.after(every.cancel_s, clock)) is not None:
                    return
            log.warning("the server did not confirm that run %s is cancelled", self.prompt_id)
        except ComfyloomError as error:  # lost or unreachable: it is gone either way
            log.debug("cancelled: %s", error)

    def _cancel(self) -> None:
        try:
            self.server.cancel(self.prompt_id)
        except (TransportError, ApiError) as error:
            log.warning("cancelling: %s", error)
        self._schedule.cancel_requested(self._now())

    def _is_connected(self) -> bool:
        return self.server.event_router.is_up

    def _now(self) -> float:
        return self.server.clock.monotonic()
