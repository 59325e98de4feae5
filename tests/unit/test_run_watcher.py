"""How a run is watched: how often it is polled, and what counts as its end.

The server is a script; its clock advances only while the watcher waits for events.
"""

from __future__ import annotations

import itertools

import pytest

from comfyloom._comfyui.websocket import ConnectionLost
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS
from comfyloom.errors import (
    MachineError,
    RunCancelled,
    RunLost,
    RunTimeout,
    TransportError,
)
from support import FakeClock
from watcher_lab import DONE, event, steady, watch


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
