"""How a run is watched: how often it is polled, and what counts as its end.

The server is a script; its clock advances only while the watcher waits for events.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.jobs_api import JobState
from comfyloom._comfyui.queue_poll import QueueSize, SharedQueuePoll
from comfyloom._comfyui.run_watcher import RunWatcher
from comfyloom._comfyui.websocket import ConnectionLost
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._core.waiting import Deadline
from comfyloom.errors import (
    MachineError,
    RunCancelled,
    RunLost,
    RunTimeout,
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

    def queue_remaining(self, timeout_s: float) -> int | None:
        assert timeout_s > 0
        self.counts.append(round(self.since(), 6))
        return self.remaining

    def reconnect(self) -> None:
        self.reconnects.append(round(self.since(), 6))

    def queue(self, timeout_s: float) -> tuple[list[str], list[str]]:
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

    def check_alive(self) -> None:
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


def test_the_end_is_read_from_history_immediately(clock: FakeClock) -> None:
    events = [*steady(2), (2.0, event("executing", None))]
    made = watch(clock, events, ends_at=2.0)
    assert made.wait() is DONE
    assert made.server.polls == [2.0]
    assert made.server.looks == []


def test_while_events_flow_one_request_in_five_seconds(clock: FakeClock) -> None:
    events = [*steady(100), (100.0, event("executing", None))]
    made = watch(clock, events, ends_at=100.0)
    made.wait()
    assert 15 <= len(made.server.polls) <= 21
    assert made.server.looks == []


def test_success_is_reported_a_moment_before_history_has_it(clock: FakeClock) -> None:
    made = watch(clock, [(1.0, event("execution_success", None))], ends_at=1.01)
    made.wait()
    assert made.server.polls[-1] <= 1.3


def test_a_late_history_is_asked_for_again_quickly(clock: FakeClock) -> None:
    made = watch(clock, [(1.0, event("executing", None))], ends_at=1.3)
    made.wait()
    assert made.server.polls[-1] <= 1.33


def test_without_a_socket_polling_alone_is_quick_and_then_slow(clock: FakeClock) -> None:
    made = watch(clock, [(0.0, ConnectionLost())], ends_at=300.0)
    made.wait()
    asked = sorted({*made.server.polls, *made.server.looks})
    first = [at for at in [*made.server.polls, *made.server.looks] if at <= 10.0]
    assert len(first) <= 42  # four a second
    late = [b - a for a, b in itertools.pairwise(asked) if a > 11]
    assert min(late) >= 0.65  # 1.5 a second at most
    assert made.server.polls[-1] - 300.0 <= 0.03 * 300.0
    assert max(late) <= 4.1


def test_an_execution_error_alone_is_not_the_end(clock: FakeClock) -> None:
    """An execution blocker sends one, and the run then succeeds."""
    events = [(1.0, event("execution_error")), *[(1 + at, item) for at, item in steady(5)]]
    made = watch(clock, [*events, (7.0, event("executing", None))], ends_at=7.0)
    assert made.wait() is DONE


def test_events_of_other_runs_are_ignored(clock: FakeClock) -> None:
    events = [(0.1, event("executing", None, "other")), (0.2, event("executing", None))]
    made = watch(clock, events, ends_at=0.2)
    made.wait()
    assert made.server.polls == [0.2]
    assert [one.prompt_id for one in made.witness.events] == ["p"]


def test_a_run_that_the_server_does_not_know_is_lost_within_seconds(clock: FakeClock) -> None:
    events = [(2.0, event("executing")), (3.0, ConnectionLost())]
    made = watch(clock, events, in_queue=lambda _: ([], []))
    with pytest.raises(RunLost) as caught:
        made.wait()
    assert caught.value.prompt_id == "p"
    assert made.elapsed_s <= 3.0 + 5.0


def test_a_run_between_queue_and_history_is_not_lost(clock: FakeClock) -> None:
    made = watch(clock, [], ends_at=4.0, in_queue=lambda at: ([], []) if at > 3.9 else (["p"], []))
    assert made.wait() is DONE


def test_a_waiting_run_reports_its_queue_position(clock: FakeClock) -> None:
    waiting = (["a"], ["b", "p"])
    made = watch(clock, [], ends_at=9.0, in_queue=lambda at: waiting if at < 5 else (["p"], []))
    made.wait()
    assert set(made.witness.positions) == {2}


def test_a_run_that_waits_is_looked_for_when_the_queue_changes(clock: FakeClock) -> None:
    waiting = (["a"], ["p"])
    status = event("status", None, None)
    made = watch(
        clock, [(4.1, status)], ends_at=6.0, in_queue=lambda at: waiting if at < 4 else (["p"], [])
    )
    made.wait()
    assert 4.1 in made.server.looks
    early = [at for at in made.server.looks if at < 4]
    assert len(early) <= 7  # the socket would report it
    assert not [at for at in made.server.polls if at < 4]  # a waiting run is not in history


def test_a_silent_run_is_reported_and_left_alone(clock: FakeClock) -> None:
    made = watch(clock, [(1.0, event("executing"))], ends_at=400.0)
    silences = made.witness.silences
    assert made.wait() is DONE
    assert 30 <= silences[0] <= 34
    assert all(b >= 2 * a for a, b in itertools.pairwise(silences))
    assert len(silences) == 4
    assert made.server.cancels == []
    assert len(made.server.reconnects) == 4  # it may be the socket that is silent


def test_a_run_that_starts_without_an_event_reconnects_the_socket(clock: FakeClock) -> None:
    made = watch(clock, [], ends_at=60.0)
    made.wait()
    assert made.server.reconnects[0] <= 4.0
    made = watch(clock, [], ends_at=60.0, is_up=False)
    made.wait()
    assert made.server.reconnects == []


def test_a_run_out_of_time_says_that_it_was_silent(clock: FakeClock) -> None:
    made = watch(clock, [(1.0, event("executing"))])
    with pytest.raises(RunTimeout, match="sent no event in its last 99 s"):
        made.wait(100.0)


def test_without_a_socket_no_run_is_reported_as_silent(clock: FakeClock) -> None:
    made = watch(clock, [], ends_at=100.0, is_up=False)
    made.wait()
    assert (made.witness.silences, made.witness.running) == ([], [True])


def test_a_passed_deadline_cancels_the_run(clock: FakeClock) -> None:
    made = watch(clock, steady(100), cancel_works_after=3)
    with pytest.raises(RunTimeout):
        made.wait(20.0)
    assert made.server.cancels == ["p"] * 3  # one interrupt alone can get lost


def test_a_cancelled_run_is_seen_to_be_gone(clock: FakeClock) -> None:
    made = watch(clock, [], cancel_works_after=2)
    made.cancel()
    with pytest.raises(RunCancelled):
        made.wait()
    assert len(made.server.cancels) == 2


def test_a_run_deleted_from_the_queue_has_no_history(clock: FakeClock) -> None:
    made = watch(clock, [], cancel_works_after=999, in_queue=lambda _: ([], []))
    made.cancel()
    with pytest.raises(RunCancelled):
        made.wait()
    assert made.elapsed_s < DEFAULT_TIMEOUTS.polling.cancel_for_s


def test_a_server_that_ignores_the_cancel_is_given_up(clock: FakeClock) -> None:
    made = watch(clock, [], cancel_works_after=999)
    made.cancel()
    with pytest.raises(RunCancelled):
        made.wait()
    assert made.elapsed_s <= DEFAULT_TIMEOUTS.polling.cancel_for_s + 1.0


def test_an_unreachable_server_is_given_up_after_a_minute(clock: FakeClock) -> None:
    made = watch(clock, [], broken_from=5.0)
    with pytest.raises(TransportError):
        made.wait()
    assert 60 <= made.elapsed_s <= 75


def test_a_server_that_comes_back_continues_the_run(clock: FakeClock) -> None:
    made = watch(clock, [], broken_from=5.0, ends_at=50.0)

    def come_back() -> None:
        if made.server.since() > 40:
            made.server.broken_from = float("inf")

    made.witness.check = come_back
    assert made.wait() is DONE
    assert 5 < made.witness.checks < 12  # the platform allows one request a second


def test_a_dead_machine_is_reported_immediately(clock: FakeClock) -> None:
    made = watch(clock, [], broken_from=5.0)

    def gone() -> None:
        raise MachineError("gone")

    made.witness.check = gone
    with pytest.raises(MachineError):
        made.wait()
    assert made.elapsed_s < 7


# --- large graphs --------------------------------------------------------------------------------


def watch_large(clock: FakeClock, size: int, jobs: FakeJobs | None = None, **facts: Any) -> Watch:
    """Watch a run whose graph makes each read of the queue large; its socket is lost."""
    made = watch(clock, [(0.0, ConnectionLost())], is_up=False, **facts)
    made.server.queue_size.posted("p", size)
    if jobs is not None:
        made.server.jobs = jobs
    return made


def test_a_large_queue_is_read_as_seldom_as_its_size_allows(clock: FakeClock) -> None:
    made = watch_large(clock, 3_000_000, ends_at=200.0)
    assert made.wait() is DONE
    assert made.server.looks
    assert len(made.server.looks) <= 200 / 60
    assert made.server.looks[0] >= 59
    assert made.server.counts  # is anything left? asked instead
    assert len(made.server.polls) > 60  # history is small, and asked as often as ever


def test_a_large_queue_is_not_read_at_once(clock: FakeClock) -> None:
    """A small one is: a run without events most likely waits."""
    jobs = FakeJobs(clock, lambda _: JobState.RUNNING, can_find=None)
    made = watch_large(clock, 3_000_000, jobs, ends_at=10.0)
    made.server.queue_size.posted("q", 3_000_000)
    begun = clock.now
    assert made.wait() is DONE
    assert jobs.asked[0] - begun >= 1.4  # 0.7 s for each graph
    small = watch(clock, [(0.0, ConnectionLost())], is_up=False, ends_at=3.0)
    small.wait()
    assert small.server.looks[0] < 0.5


def test_a_run_behind_large_graphs_is_found_by_its_job(clock: FakeClock) -> None:
    def answer(at: float) -> JobState:
        return JobState.WAITING if at < 20 else JobState.RUNNING if at < 40 else JobState.ENDED

    jobs = FakeJobs(clock, answer, can_find=None)
    made = watch_large(clock, 3_000_000, jobs, ends_at=40.0)
    assert made.wait() is DONE
    assert made.server.looks == []
    assert made.witness.running == [True]
    assert len(jobs.asked) <= 40 / 0.7 + 1


def test_a_job_that_is_unknown_is_lost(clock: FakeClock) -> None:
    jobs = FakeJobs(clock, lambda at: JobState.RUNNING if at < 3 else JobState.UNKNOWN, True)
    made = watch_large(clock, 3_000_000, jobs)
    with pytest.raises(RunLost):
        made.wait()
    assert made.elapsed_s < 15
    assert made.server.looks == []


def test_without_a_jobs_api_an_empty_queue_needs_no_reading(clock: FakeClock) -> None:
    made = watch_large(clock, 100_000_000, remaining=0)
    with pytest.raises(RunLost):
        made.wait()
    assert made.elapsed_s < 5
    assert made.server.looks == []


def test_cancelling_reads_even_a_large_queue(clock: FakeClock) -> None:
    made = watch_large(clock, 100_000_000, in_queue=lambda _: ([], []))
    with pytest.raises(RunTimeout):
        made.wait(5.0)
    assert made.server.looks


def test_a_graph_that_is_gone_makes_the_queue_small_again() -> None:
    size = QueueSize()
    size.posted("a", 3_000_000)
    size.last_bytes = 100
    assert (size.is_large, size.expected_bytes) == (True, 3_000_000)
    size.ended("a")
    size.ended("a")
    assert (size.is_large, size.expected_bytes) == (False, 100)
