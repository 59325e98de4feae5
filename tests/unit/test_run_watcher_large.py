"""How a run with a large graph is watched: little is read."""

from __future__ import annotations

from typing import Any

import pytest

from comfyloom._comfyui.jobs_api import JobState
from comfyloom._comfyui.queue_poll import QueueSize
from comfyloom._comfyui.websocket import ConnectionLost
from comfyloom.errors import (
    RunLost,
    RunTimeout,
)
from support import FakeClock
from watcher_lab import DONE, FakeJobs, Watch, watch

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
