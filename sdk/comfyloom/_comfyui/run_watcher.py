"""Watching one run until it has ended: socket and polling side by side.

The socket is a hint, history is the truth. `executing {node: null}` ends every run, and history
is complete when it comes; `execution_success` comes a little earlier and only hurries the next
poll. Polling is slow while events flow and quick while they do not. Looks at the queue are shared
by all runs on a server, so that sixty runs that wait cost it no more than one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.websocket import Link, SocketMessage
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline
from comfyloom._http.retry import NO_RETRY
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    RunCancelled,
    RunLost,
    RunTimeout,
    TransportError,
)

_ENDINGS: Final = frozenset({"execution_success", "execution_error", "execution_interrupted"})
_MISSES: Final = 2
SHORTEST_S: Final = 1.0
AT_ONCE: Final = 200
SILENT_S: Final = 30.0
NEVER: Final = float("-inf")
LATER: Final = float("inf")


@attrs.frozen(kw_only=True)
class PollSchedule:
    """How often to ask, in seconds.

    Attributes:
        flowing_s: While events come …
        stopped_s: … and so long after the last of them, they do not any more.
        quick_s: While none do, in the first `quick_for_s` of a run.
        quick_for_s: How long that lasts.
        slowest_share: After it, the interval grows to this share of the elapsed time …
        slow_s: … but is at least this, which also holds for a run that waits in the queue while
            the socket would tell when that changes …
        slowest_s: … and at most this.
        queue_s: Between looks at the queue, which tell a lost run from one that waits.
        settle_s: When an event said that the run has ended but history does not have it yet …
        settle_for_s: … for this long at most.
        silent_s: When to say that a run is silent; again when it has been so for twice as long.
        cancel_s: Between repeated attempts to cancel …
        cancel_for_s: … for this long at most.
        ask_s: Between questions whether a server that is out of reach is still there.
        give_up_s: How long a server may be out of reach.
    """

    flowing_s: float = 5.0
    stopped_s: float = 2.0
    quick_s: float = 0.25
    quick_for_s: float = 10.0
    slowest_share: float = 0.03
    slow_s: float = 0.7
    slowest_s: float = 4.0
    queue_s: float = 1.5
    settle_s: float = 0.02
    settle_for_s: float = 1.5
    silent_s: float = SILENT_S
    cancel_s: float = 0.5
    cancel_for_s: float = 3.0
    ask_s: float = 5.0
    give_up_s: float = 60.0

    def quiet_s(self, elapsed_s: float) -> float:
        """Return the interval without events, `elapsed_s` after the submission."""
        if elapsed_s < self.quick_for_s:
            return self.quick_s
        return min(max(self.slow_s, self.slowest_share * elapsed_s), self.slowest_s)


class _Wake:
    """Put into the inbox to make the monitor look at its flags."""


_Inbox: TypeAlias = "queue.SimpleQueue[SocketMessage | _Wake]"


def _new_inbox() -> _Inbox:
    return queue.SimpleQueue()


@attrs.define(eq=False)
class RunWatcher:
    """Follows one prompt.

    Args:
        server: Where it runs.
        prompt_id: Its id.
        on_event: Called with each event of this run.
        on_queued: Called with the number of runs before it while it waits.
        on_running: Called when the server says that it runs, before any event did.
        on_silent: Called with the seconds for which a run that runs has told nothing.
        still_there: Called when the server is out of reach; raises when that is final.
        on_poll: Called at each poll, every few seconds.
        schedule: How often to ask.
    """

    server: ComfyUI
    prompt_id: str
    on_event: Callable[[ServerEvent], object] = lambda _: None
    on_queued: Callable[[int], object] = lambda _: None
    on_running: Callable[[], object] = lambda: None
    on_silent: Callable[[float], object] = lambda _: None
    still_there: Callable[[], object] = lambda: None
    on_poll: Callable[[], object] = lambda: None
    schedule: PollSchedule = attrs.field(factory=PollSchedule)
    _inbox: _Inbox = attrs.field(factory=_new_inbox, init=False)
    _cancelled: threading.Event = attrs.field(factory=threading.Event, init=False)
    _deadline: Deadline = attrs.field(factory=lambda: Deadline(None), init=False)
    _misses: int = attrs.field(default=0, init=False)
    _waits: bool = attrs.field(default=False, init=False)
    _runs: bool = attrs.field(default=False, init=False)
    _told_silent_s: float = attrs.field(default=0.0, init=False)
    _has_heard: bool = attrs.field(default=False, init=False)
    _was_up: bool = attrs.field(default=False, init=False)
    # Moments of the clock; NEVER is before all of them, LATER after.
    _begun: float = attrs.field(default=NEVER, init=False)
    _reached: float = attrs.field(default=NEVER, init=False)
    _last_event: float = attrs.field(default=NEVER, init=False)
    _heard: float = attrs.field(default=LATER, init=False)
    _last_poll: float = attrs.field(default=NEVER, init=False)
    _last_look: float = attrs.field(default=NEVER, init=False)
    _last_ask: float = attrs.field(default=NEVER, init=False)
    _ended: float = attrs.field(default=NEVER, init=False)
    _due: float = attrs.field(default=LATER, init=False)

    def deliver(self, delivery: SocketMessage) -> None:
        """Take an event or a change of the socket; called from the reader's thread."""
        self._inbox.put(delivery)

    def cancel(self) -> None:
        """Ask for the run to be cancelled; `wait` repeats it until the server confirms."""
        self._cancelled.set()
        self._inbox.put(_Wake())

    def forget_listeners(self) -> None:
        """Tell nobody any more, and refer to nobody."""
        self.on_event = lambda _: None
        self.on_queued = self.on_silent = lambda _: None
        self.on_running = self.on_poll = self.still_there = lambda: None

    def wait(self, deadline: Deadline) -> HistoryEntry:
        """Block until the run has ended, and return what history says of it.

        Raises:
            RunCancelled: `cancel` was called, and the run is gone or has ended.
            RunTimeout: The deadline is over; the run was cancelled.
            RunLost: The server knows nothing of the run any more.
            TransportError: The server stays out of reach.
        """
        self._deadline = deadline
        self._begun = self._reached = self._last_poll = self._now()
        # A run without events at its first poll most likely waits in the queue: look at once.
        self._last_look = self._begun - self.schedule.queue_s
        self._was_up = self.server.channel.is_up
        entry = self._watch(deadline, lambda: self._cancelled.is_set())
        if entry is not None:
            if self._was_up and not self._has_heard:
                self.server.channel.doubt()
            return entry
        timed_out, silent_s = not self._cancelled.is_set(), self._silent_s()
        self._see_it_cancelled()
        if not timed_out:
            raise RunCancelled(prompt_id=self.prompt_id)
        raise RunTimeout(_told_of_silence(silent_s), prompt_id=self.prompt_id)

    def _watch(self, deadline: Deadline, leave: Callable[[], bool]) -> HistoryEntry | None:
        """Return the entry of the ended run; None when time is over or `leave` says so."""
        while not (deadline.over or leave()):
            self._receive(min(self._next_poll(), deadline.at or LATER))
            if self._now() >= self._next_poll() and (entry := self._poll()) is not None:
                return entry
        return None

    # --- events ----------------------------------------------------------------------------------

    def _receive(self, until: float) -> None:
        """Take what has come, waiting for the first of it until a moment.

        Only so much at once: events that come faster than they can be told must not keep from
        polling, nor from a deadline.
        """
        try:
            item = self._inbox.get(timeout=max(0.0, until - self._now()))
            for _ in range(AT_ONCE):
                self._take(item)
                item = self._inbox.get_nowait()
            self._take(item)
        except queue.Empty:
            return

    def _take(self, item: SocketMessage | _Wake) -> None:
        if isinstance(item, ServerEvent):
            self._take_event(item)
        elif item is Link.DOWN:
            # What happens while the link is down is not told again: from now on, ask.
            self._last_event, self._was_up = NEVER, False
            self._due = self._now()

    def _take_event(self, event: ServerEvent) -> None:
        if event.type == "status" and (self._cancelled.is_set() or self._waits):
            self._due = self._now()  # a deleted prompt has no event but the shorter queue
        if event.prompt_id not in (self.prompt_id, None):
            return
        if event.prompt_id is not None:
            self._note(event)
        try:
            self.on_event(event)
        except Exception:  # noqa: BLE001 - what is told of a run must not end it
            log.exception("an event could not be told")

    def _note(self, event: ServerEvent) -> None:
        """Let an event of this run set the pace of the polling."""
        self._last_event = self._heard = self._now()
        self._runs, self._waits, self._misses, self._told_silent_s = True, False, 0, 0.0
        self._has_heard = True
        if event.type == "executing" and event.node is None:
            self._ended = self._due = self._now()
        elif event.type in _ENDINGS:
            self._ended = self._now()
            # `executing {node: null}` follows within a moment; this is for the case it does not.
            self._due = min(self._due, self._now() + self.schedule.quick_s)

    # --- polling ---------------------------------------------------------------------------------

    def _next_poll(self) -> float:
        quiet = max(self._last_poll + self._interval(), self._last_event + self.schedule.stopped_s)
        flowing = self._last_poll + self.schedule.flowing_s
        settling = self._last_poll + self.schedule.settle_s if self._settles() else LATER
        return min(self._due, quiet, flowing, settling)

    def _settles(self) -> bool:
        """Whether the run has ended by its events, and history is about to have it."""
        return self._due == LATER and self._now() - self._ended < self.schedule.settle_for_s

    def _interval(self) -> float:
        """Return the seconds between two polls while nothing is heard."""
        now, pace = self._now(), self.schedule
        if self._waits and self.server.channel.is_up:
            return pace.slow_s
        return pace.quiet_s(now - self._begun)

    def _poll(self) -> HistoryEntry | None:
        """Ask history, or the queue when it is time to; None while the run goes on."""
        self._due = LATER
        if self._waits and not self._may_look():
            # What waits is not in history; the queue was looked at a moment ago.
            self._due = self._last_look + self.schedule.quick_s
            return None
        self.on_poll()
        entry = None
        try:
            entry = self._look_in_queue() if self._may_look() else self._read_history()
            self._reached = self._now()
        except (TransportError, ApiError) as error:
            self._unreachable(error)
        self._last_poll = self._now()
        return entry

    def _read_history(self) -> HistoryEntry | None:
        how: dict[str, Any] = {"backoff": NO_RETRY, "timeout_s": self._patience_s()}
        return self.server.history(self.prompt_id, **how)

    def _patience_s(self) -> float:
        """Return how long an answer is worth waiting for."""
        poll_s = self.server.patience.poll_s
        return min(poll_s, max(SHORTEST_S, self._deadline.remaining_s))

    def _may_look(self) -> bool:
        """Whether to read the queue: not while events tell that the run is alive."""
        now = self._now()
        alive = now - self._last_event < self.schedule.stopped_s and not self._cancelled.is_set()
        often = self._misses or self._waits
        wait = self.schedule.quick_s if often else self.schedule.queue_s
        return not alive and now - self._last_look >= wait

    def _look_in_queue(self) -> HistoryEntry | None:
        now = self._now()
        # What another run saw just now will do, unless this one has seen it already.
        after = max(self._begun, self._last_look, now - self.schedule.quick_s)
        self._last_look = now
        running, pending = self.server.queue_poll.since(after, self._patience_s())
        self._waits = self.prompt_id in pending
        if self._waits:
            self._misses = 0
            self.on_queued(len(running) + pending.index(self.prompt_id))
            return None
        if self.prompt_id in running:
            self._misses = 0
            self._note_running()
            return None
        # History is read after the queue, else a run that ends between the two would look lost.
        entry = self._read_history()
        if entry is None:
            self._miss()
        return entry

    def _note_running(self) -> None:
        """The server says that it runs; say so if no event did, and if it has become silent."""
        if not self._runs:
            self._runs, self._heard = True, self._now()
            self.on_running()
        silent_s = self._silent_s()
        if silent_s >= self.schedule.stopped_s and self._was_up and not self._has_heard:
            self._was_up = False
            self.server.channel.doubt()  # no run begins without an event
        if silent_s >= max(self.schedule.silent_s, 2 * self._told_silent_s):
            self._told_silent_s = silent_s
            self.server.channel.doubt()
            self.on_silent(silent_s)

    def _silent_s(self) -> float:
        """Return for how long a run that runs has told nothing, 0 when nothing could be heard."""
        return max(0.0, self._now() - self._heard) if self.server.channel.is_up else 0.0

    def _miss(self) -> None:
        self._misses += 1
        if self._misses >= _MISSES:
            raise RunLost(prompt_id=self.prompt_id)
        self._due = self._now() + self.schedule.quick_s

    def _unreachable(self, error: Exception) -> None:
        first = self._last_ask < self._reached
        if first:
            log.warning("the run cannot be watched for the moment: %s", error)
        if first or self._now() - self._last_ask >= self.schedule.ask_s:
            self._last_ask = self._now()
            self.still_there()
        if self._now() - self._reached > self.schedule.give_up_s:
            self._ask_to_cancel()  # it may come back to a run that nobody waits for any more
            raise error

    # --- cancelling ------------------------------------------------------------------------------

    def _see_it_cancelled(self) -> None:
        """Cancel until the server confirms or patience ends; a single interrupt can get lost."""
        self._cancelled.set()
        patience = Deadline.after(self.schedule.cancel_for_s, self.server.clock)
        try:
            while not patience.over:
                self._ask_to_cancel()
                pause = Deadline.after(self.schedule.cancel_s, self.server.clock)
                if self._watch(pause, lambda: False) is not None:
                    return
            log.warning("the server did not confirm that run %s is cancelled", self.prompt_id)
        except ComfyloomError as gone:  # lost, or out of reach: it is gone either way
            log.debug("cancelled: %s", gone)

    def _ask_to_cancel(self) -> None:
        try:
            self.server.cancel(self.prompt_id)
        except (TransportError, ApiError) as error:
            log.warning("cancelling: %s", error)
        self._last_look = NEVER
        self._due = self._now() + self.schedule.settle_s

    def _now(self) -> float:
        return self.server.clock.monotonic()


def _told_of_silence(silent_s: float) -> str:
    """Return the message of a run whose time is over and that was silent; "" if it was not."""
    if silent_s < SILENT_S:
        return ""
    return f"the run took longer than it was given, and told nothing for its last {silent_s:.0f} s"
