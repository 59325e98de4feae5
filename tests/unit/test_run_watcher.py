"""How a run is watched: how often it is asked for, and what is taken for its end.

The server is a script; its clock passes only while the monitor waits for events.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._comfyui.queue_poll import SharedQueuePoll
from comfyloom._comfyui.run_watcher import PollSchedule, RunWatcher
from comfyloom._comfyui.timeouts import PATIENCE, Patience
from comfyloom._comfyui.websocket import Link
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
class FakeServer:
    """A ComfyUI whose run ends at a moment, and is in the queue until then."""

    clock: FakeClock
    ends_at: float = float("inf")
    in_queue: Callable[[float], tuple[list[str], list[str]]] = lambda _: (["p"], [])
    broken_from: float = float("inf")
    is_up: bool = True
    patience: Patience = PATIENCE
    polls: list[float] = attrs.field(factory=list)
    looks: list[float] = attrs.field(factory=list)
    doubts: list[float] = attrs.field(factory=list)
    cancels: list[str] = attrs.field(factory=list)
    cancel_works_after: int = 1
    begun: float = 0.0
    _lookout: SharedQueuePoll | None = None

    def since(self) -> float:
        return self.clock.now - self.begun

    def history(self, prompt_id: str, **_: Any) -> HistoryEntry | None:
        assert prompt_id == "p"
        self.polls.append(round(self.since(), 6))
        if self.since() >= self.broken_from:
            raise TransportError("out of reach")
        return DONE if self.since() >= self.ends_at else None

    @property
    def channel(self) -> FakeServer:
        return self

    @property
    def queue_poll(self) -> SharedQueuePoll:
        if self._lookout is None:
            self._lookout = SharedQueuePoll(self.queue, self.clock)  # type: ignore[arg-type]
        return self._lookout

    def doubt(self) -> None:
        self.doubts.append(round(self.since(), 6))

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
    """An inbox whose items come at moments of the clock."""

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


def monitor(
    clock: FakeClock, events: list[tuple[float, Any]], **facts: Any
) -> tuple[RunWatcher, FakeServer]:
    server = FakeServer(clock, begun=clock.now, **facts)
    made = RunWatcher(server, "p")  # type: ignore[arg-type]
    begun = clock.now
    made._inbox = ScriptedInbox(clock, [(begun + at, item) for at, item in events])  # type: ignore[assignment]
    return made, server


def wait(made: RunWatcher, clock: FakeClock, seconds: float | None = 3600.0) -> HistoryEntry:
    return made.wait(Deadline.after(seconds, clock))


def steady(until: float) -> list[tuple[float, ServerEvent]]:
    return [(at / 2, event("progress_state")) for at in range(int(until * 2))]


def test_the_end_is_read_from_history_at_once(clock: FakeClock) -> None:
    events = [*steady(2), (2.0, event("executing", None))]
    made, server = monitor(clock, events, ends_at=2.0)
    assert wait(made, clock) is DONE
    assert server.polls == [2.0]
    assert server.looks == []


def test_while_events_flow_one_request_in_five_seconds(clock: FakeClock) -> None:
    events = [*steady(100), (100.0, event("executing", None))]
    made, server = monitor(clock, events, ends_at=100.0)
    wait(made, clock)
    assert 15 <= len(server.polls) <= 21
    assert server.looks == []


def test_success_is_told_a_moment_before_history_has_it(clock: FakeClock) -> None:
    made, server = monitor(clock, [(1.0, event("execution_success", None))], ends_at=1.01)
    wait(made, clock)
    assert server.polls[-1] <= 1.3


def test_a_late_history_is_asked_for_again_quickly(clock: FakeClock) -> None:
    made, server = monitor(clock, [(1.0, event("executing", None))], ends_at=1.3)
    wait(made, clock)
    assert server.polls[-1] <= 1.33


def test_without_a_socket_polling_alone_is_quick_and_then_slow(clock: FakeClock) -> None:
    made, server = monitor(clock, [(0.0, Link.DOWN)], ends_at=300.0)
    wait(made, clock)
    asked = sorted({*server.polls, *server.looks})
    first = [at for at in [*server.polls, *server.looks] if at <= 10.0]
    assert len(first) <= 42  # four a second
    late = [b - a for a, b in itertools.pairwise(asked) if a > 11]
    assert min(late) >= 0.65  # 1.5 a second at most
    assert server.polls[-1] - 300.0 <= 0.03 * 300.0
    assert max(late) <= 4.1


def test_an_execution_error_alone_is_not_the_end(clock: FakeClock) -> None:
    """An execution blocker sends one, and the run goes on to its success."""
    events = [(1.0, event("execution_error")), *[(1 + at, item) for at, item in steady(5)]]
    made, _ = monitor(clock, [*events, (7.0, event("executing", None))], ends_at=7.0)
    assert wait(made, clock) is DONE


def test_events_of_others_mean_nothing(clock: FakeClock) -> None:
    seen: list[ServerEvent] = []
    events = [(0.1, event("executing", None, "other")), (0.2, event("executing", None))]
    made, server = monitor(clock, events, ends_at=0.2)
    made.on_event = seen.append
    wait(made, clock)
    assert server.polls == [0.2]
    assert [one.prompt_id for one in seen] == ["p"]


def test_a_run_that_nobody_knows_is_lost_within_seconds(clock: FakeClock) -> None:
    events = [(2.0, event("executing")), (3.0, Link.DOWN)]
    made, _ = monitor(clock, events, in_queue=lambda _: ([], []))
    with pytest.raises(RunLost) as caught:
        wait(made, clock)
    assert caught.value.prompt_id == "p"
    assert clock.now - made._begun <= 3.0 + 5.0


def test_a_run_between_queue_and_history_is_not_lost(clock: FakeClock) -> None:
    made, _ = monitor(
        clock, [], ends_at=4.0, in_queue=lambda at: ([], []) if at > 3.9 else (["p"], [])
    )
    assert wait(made, clock) is DONE


def test_a_waiting_run_tells_its_place(clock: FakeClock) -> None:
    places: list[int] = []
    waiting = (["a"], ["b", "p"])
    made, _ = monitor(
        clock, [], ends_at=9.0, in_queue=lambda at: waiting if at < 5 else (["p"], [])
    )
    made.on_queued = places.append
    wait(made, clock)
    assert set(places) == {2}


def test_a_run_that_waits_is_looked_for_when_the_queue_changes(clock: FakeClock) -> None:
    waiting = (["a"], ["p"])
    status = event("status", None, None)
    made, server = monitor(
        clock, [(4.1, status)], ends_at=6.0, in_queue=lambda at: waiting if at < 4 else (["p"], [])
    )
    wait(made, clock)
    assert 4.1 in server.looks
    early = [at for at in server.looks if at < 4]
    assert len(early) <= 7  # the socket would tell
    assert not [at for at in server.polls if at < 4]  # what waits is not in history


def test_a_run_that_tells_nothing_is_reported_and_left_alone(clock: FakeClock) -> None:
    told: list[float] = []
    made, server = monitor(clock, [(1.0, event("executing"))], ends_at=400.0)
    made.on_silent = told.append
    assert wait(made, clock) is DONE
    assert 30 <= told[0] <= 34
    assert all(b >= 2 * a for a, b in itertools.pairwise(told))
    assert len(told) == 4
    assert server.cancels == []
    assert len(server.doubts) == 4  # it may be the socket that is silent


def test_a_run_that_begins_without_an_event_casts_doubt_on_the_socket(clock: FakeClock) -> None:
    made, server = monitor(clock, [], ends_at=60.0)
    wait(made, clock)
    assert server.doubts[0] <= 4.0
    made, server = monitor(clock, [], ends_at=60.0, is_up=False)
    wait(made, clock)
    assert server.doubts == []


def test_a_run_out_of_time_says_that_it_was_silent(clock: FakeClock) -> None:
    made, _ = monitor(clock, [(1.0, event("executing"))])
    with pytest.raises(RunTimeout, match="told nothing for its last 99 s"):
        wait(made, clock, 100.0)


def test_without_a_socket_nobody_can_be_silent(clock: FakeClock) -> None:
    told: list[float] = []
    begun: list[bool] = []
    made, _ = monitor(clock, [], ends_at=100.0, is_up=False)
    made.on_silent = told.append
    made.on_running = lambda: begun.append(True)
    wait(made, clock)
    assert (told, begun) == ([], [True])


def test_time_that_is_over_cancels_the_run(clock: FakeClock) -> None:
    made, server = monitor(clock, steady(100), cancel_works_after=3)
    with pytest.raises(RunTimeout):
        wait(made, clock, 20.0)
    assert server.cancels == ["p"] * 3  # one interrupt alone can get lost


def test_a_cancelled_run_is_seen_to_be_gone(clock: FakeClock) -> None:
    made, server = monitor(clock, [], cancel_works_after=2)
    made.cancel()
    with pytest.raises(RunCancelled):
        wait(made, clock)
    assert len(server.cancels) == 2


def test_a_run_deleted_from_the_queue_has_no_history(clock: FakeClock) -> None:
    made, _ = monitor(clock, [], cancel_works_after=999, in_queue=lambda _: ([], []))
    made.cancel()
    with pytest.raises(RunCancelled):
        wait(made, clock)
    assert clock.now - made._begun < PollSchedule().cancel_for_s


def test_a_server_that_ignores_the_cancel_is_left_after_a_while(clock: FakeClock) -> None:
    made, _ = monitor(clock, [], cancel_works_after=999)
    made.cancel()
    with pytest.raises(RunCancelled):
        wait(made, clock)
    assert clock.now - made._begun <= PollSchedule().cancel_for_s + 1.0


def test_a_server_out_of_reach_is_given_up_after_a_minute(clock: FakeClock) -> None:
    made, _ = monitor(clock, [], broken_from=5.0)
    with pytest.raises(TransportError):
        wait(made, clock)
    assert 60 <= clock.now - made._begun <= 75


def test_a_server_that_comes_back(clock: FakeClock) -> None:
    made, server = monitor(clock, [], broken_from=5.0, ends_at=50.0)
    asked = 0

    def still_there() -> None:
        nonlocal asked
        asked += 1
        if server.since() > 40:
            server.broken_from = float("inf")

    made.still_there = still_there
    assert wait(made, clock) is DONE
    assert 5 < asked < 12  # not at every poll: the platform allows one request a second


def test_a_machine_that_is_gone_is_told_at_once(clock: FakeClock) -> None:
    made, _ = monitor(clock, [], broken_from=5.0)

    def still_there() -> None:
        raise MachineError("gone")

    made.still_there = still_there
    with pytest.raises(MachineError):
        wait(made, clock)
    assert clock.now - made._begun < 7
