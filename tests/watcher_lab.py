"""A watcher of a run on a scripted server, by a clock that only the watcher moves."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.jobs_api import JobState
from comfyloom._comfyui.queue_poll import QueueSize, SharedQueuePoll
from comfyloom._comfyui.run_watcher import RunWatcher
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._core.waiting import Deadline
from comfyloom.errors import (
    RunCancelled,
    TransportError,
)
from support import FakeClock

DONE = HistoryEntry(prompt_id="p", outputs={}, status="success")


@attrs.define
class FakeJobs:
    """A jobs API, or none: its answers by the seconds since it was first asked."""

    clock: FakeClock | None = None
    answer: Callable[[float], JobState | None] = lambda _: None
    can_find: bool | None = False
    asked: list[float] = attrs.field(factory=list)

    def find(self, prompt_id: str, **_: Any) -> JobState | None:
        assert prompt_id == "p"
        assert self.clock is not None
        self.asked.append(self.clock.now)
        found = self.answer(self.clock.now - self.asked[0])
        self.can_find = found is not None
        return found


@attrs.define
class FakeServer:
    """A ComfyUI whose run ends at a set time, and is in the queue until then."""

    clock: FakeClock
    ends_at: float = float("inf")
    in_queue: Callable[[float], tuple[list[str], list[str]]] = lambda _: (["p"], [])
    broken_from: float = float("inf")
    is_up: bool = True
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    polls: list[float] = attrs.field(factory=list)
    looks: list[float] = attrs.field(factory=list)
    reconnects: list[float] = attrs.field(factory=list)
    cancels: list[str] = attrs.field(factory=list)
    cancel_works_after: int = 1
    begun: float = 0.0
    queue_size: QueueSize = attrs.field(factory=QueueSize)
    jobs: FakeJobs = attrs.field(factory=lambda: FakeJobs())
    remaining: int = 1
    counts: list[float] = attrs.field(factory=list)
    _shared: SharedQueuePoll | None = None

    def since(self) -> float:
        return self.clock.now - self.begun

    def history(self, prompt_id: str, **_: Any) -> HistoryEntry | None:
        assert prompt_id == "p"
        self.polls.append(round(self.since(), 6))
        if self.since() >= self.broken_from:
            raise TransportError("out of reach")
        return DONE if self.since() >= self.ends_at else None

    @property
    def event_router(self) -> FakeServer:
        return self

    @property
    def queue_poll(self) -> SharedQueuePoll:
        if self._shared is None:
            self._shared = SharedQueuePoll(self.queue, self.clock)  # type: ignore[arg-type]
        return self._shared

    def queue_remaining(self, **_: Any) -> int | None:
        self.counts.append(round(self.since(), 6))
        return self.remaining

    def reconnect(self) -> None:
        self.reconnects.append(round(self.since(), 6))

    def queue(self, **_: Any) -> tuple[list[str], list[str]]:
        self.looks.append(round(self.since(), 6))
        if self.since() >= self.broken_from:
            raise TransportError("out of reach")
        return ([], []) if self.since() >= self.ends_at else self.in_queue(self.since())

    def cancel(self, prompt_id: str) -> None:
        self.cancels.append(prompt_id)
        if len(self.cancels) >= self.cancel_works_after:
            self.ends_at = self.since()


@attrs.define
class ScriptedInbox:
    """An inbox whose items arrive at set times of the clock."""

    clock: FakeClock
    items: list[tuple[float, Any]]
    now: list[Any] = attrs.field(factory=list)

    def put(self, item: Any) -> None:
        self.now.append(item)

    def get(self, timeout: float) -> Any:
        if self.now:
            return self.now.pop(0)
        until = self.clock.now + timeout
        if self.items and self.items[0][0] <= until:
            at, item = self.items.pop(0)
            self.clock.now = max(self.clock.now, at)
            return item
        self.clock.now = until + 1e-6
        raise queue.Empty

    def get_nowait(self) -> Any:
        return self.get(0.0) if self.now or self._due() else self._empty()

    def _due(self) -> bool:
        return bool(self.items) and self.items[0][0] <= self.clock.now

    def _empty(self) -> Any:
        raise queue.Empty


def event(kind: str, node: str | None = "3", prompt_id: str | None = "p") -> ServerEvent:
    return ServerEvent(type=kind, prompt_id=prompt_id, node=node)


@attrs.define
class Witness:
    """A listener and a liveness check that keep every call."""

    events: list[ServerEvent] = attrs.field(factory=list)
    positions: list[int] = attrs.field(factory=list)
    running: list[bool] = attrs.field(factory=list)
    silences: list[float] = attrs.field(factory=list)
    checks: int = 0
    check: Callable[[], object] = lambda: None

    def on_event(self, event: ServerEvent) -> None:
        self.events.append(event)

    def on_queued(self, position: int) -> None:
        self.positions.append(position)

    def on_running(self) -> None:
        self.running.append(True)

    def on_silent(self, seconds: float) -> None:
        self.silences.append(seconds)

    def touch(self) -> None: ...

    def check_alive(self, server: object) -> None:
        self.checks += 1
        self.check()


@attrs.define
class Watch:
    """A watcher with its scripted server, its witness and its clock."""

    watcher: RunWatcher
    server: FakeServer
    witness: Witness
    scope: CancelScope
    begun: float

    def wait(self, seconds: float | None = 3600.0) -> HistoryEntry:
        self.scope.deadline = Deadline.after(seconds, self.server.clock)
        return self.watcher.wait()

    def cancel(self) -> None:
        self.scope.cancel(RunCancelled(prompt_id="p"))

    @property
    def elapsed_s(self) -> float:
        return self.server.clock.now - self.begun


def watch(clock: FakeClock, events: list[tuple[float, Any]], **facts: Any) -> Watch:
    server, witness, scope = FakeServer(clock, begun=clock.now, **facts), Witness(), CancelScope()
    watcher = RunWatcher(server, "p", scope, witness, witness)  # type: ignore[arg-type]
    begun = clock.now
    watcher._inbox = ScriptedInbox(clock, [(begun + at, item) for at, item in events])  # type: ignore[assignment]
    return Watch(watcher, server, witness, scope, begun)


def steady(until: float) -> list[tuple[float, ServerEvent]]:
    return [(at / 2, event("progress_state")) for at in range(int(until * 2))]
