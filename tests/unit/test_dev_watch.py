"""Watching the dev server: prompts as the queue shows them, and a clock that goes on between."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from comfyloom._comfyui.history import HistoryEntry
from comfyloom._core.timeouts import Timeouts
from comfyloom._dev.health import DevStatus
from comfyloom._dev.watch import KEPT, Prompts, StatusSnapshot, follow
from comfyloom._records.dev_state import Health
from comfyloom.errors import ApiError, TransportError
from support import FakeClock

QUICK = Timeouts(dev_status_every_s=15.0, dev_queue_every_s=1.0)
HEALTHY = DevStatus(
    health=Health.HEALTHY,
    server_id="s-1",
    uptime_s=100.0,
    lease_left_s=10.0,
    price=Decimal(36),
    session_cost=Decimal(1),
    total_cost=Decimal(2),
)


class FakeQueue:
    """A ComfyUI whose queue and history are set by the test."""

    def __init__(self) -> None:
        self.running: tuple[str, ...] = ()
        self.pending: tuple[str, ...] = ()
        self.ended: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None
        self.closed = False

    def queue(self, **_: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.error is not None:
            raise self.error
        return self.running, self.pending

    def history(self, prompt_id: str, **_: Any) -> HistoryEntry | None:
        return HistoryEntry.parse(prompt_id, self.ended.get(prompt_id))

    def close(self) -> None:
        self.closed = True


def ended(status: str, *messages: list[Any]) -> dict[str, Any]:
    status_str = "success" if status == "success" else "error"
    return {
        "outputs": {},
        "status": {
            "status_str": status_str,
            "completed": status == "success",
            "messages": list(messages),
        },
    }


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def prompts(queue: FakeQueue, clock: FakeClock) -> Prompts:
    return Prompts(queue, clock)  # type: ignore[arg-type]


def states(prompts: Prompts) -> dict[str, str]:
    return {each.prompt_id: each.state for each in prompts.look()}


def test_a_prompt_waits_runs_and_is_done(
    prompts: Prompts, queue: FakeQueue, clock: FakeClock
) -> None:
    queue.pending = ("p",)
    assert states(prompts) == {"p": "waiting"}
    assert prompts.at_work
    queue.running, queue.pending = ("p",), ()
    assert states(prompts) == {"p": "running"}
    clock.sleep(30.0)
    (prompt,) = prompts.look()
    assert prompt.seconds == 30.0
    queue.running, queue.ended = (), {"p": ended("success")}
    clock.sleep(5.0)
    (prompt,) = prompts.look()
    assert (prompt.state, prompt.seconds) == ("done", 35.0)
    assert not prompts.at_work
    clock.sleep(100.0)
    assert prompts.look() == (prompt,)  # its time stands still


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        (None, "gone"),
        (ended("success"), "done"),
        (ended("error", ["execution_interrupted", {"prompt_id": "p"}]), "cancelled"),
        (ended("error", ["execution_error", {"prompt_id": "p", "node_id": "3"}]), "failed"),
    ],
)
def test_history_says_how_a_prompt_ended(
    prompts: Prompts, queue: FakeQueue, entry: dict[str, Any] | None, state: str
) -> None:
    queue.running = ("p",)
    prompts.look()
    queue.running = ()
    if entry is not None:
        queue.ended = {"p": entry}
    assert states(prompts) == {"p": state}


def test_only_the_last_ended_prompts_are_kept(prompts: Prompts, queue: FakeQueue) -> None:
    names = [f"p-{n}" for n in range(KEPT + 3)]
    for name in names:
        queue.running, queue.ended[name] = (name,), ended("success")
        prompts.look()
    queue.running, queue.pending = ("now",), ("next",)
    found = states(prompts)
    assert [name for name, state in found.items() if state == "done"] == names[-KEPT:]
    assert (found["now"], found["next"]) == ("running", "waiting")


# --- following -----------------------------------------------------------------------------------


@pytest.fixture
def watched(queue: FakeQueue, clock: FakeClock) -> Any:
    """Follow a dev server with the given statuses; what was done to it is in `uses` and `looks`."""

    class Watched:
        uses: int = 0
        looks: int = 0

        def start(self, *found: DevStatus) -> Iterator[StatusSnapshot]:
            left = list(found)

            def look() -> DevStatus:
                self.looks += 1
                return left.pop(0) if len(left) > 1 else left[0]

            def use() -> None:
                self.uses += 1

            return follow(look, lambda: queue, use, QUICK, clock)  # type: ignore[arg-type, return-value]

    return Watched()


def test_time_and_cost_go_on_between_two_checks(watched: Any) -> None:
    snapshots = watched.start(HEALTHY, DevStatus())
    first = next(snapshots).status
    assert (first.uptime_s, first.session_cost) == (100.0, Decimal(1))
    later = [next(snapshots) for _ in range(5)][-1].status
    assert watched.looks == 1
    assert later.uptime_s == 105.0
    assert later.lease_left_s == 5.0
    assert later.session_cost == pytest.approx(Decimal("1.05"))
    assert later.total_cost == pytest.approx(Decimal("2.05"))


def test_a_lease_never_has_less_than_nothing_left(watched: Any) -> None:
    *_, last = (each for each, _ in zip(watched.start(HEALTHY), range(14), strict=False))
    assert last.status.lease_left_s == 0.0


def test_an_unknown_price_stays_unknown(watched: Any) -> None:
    import attrs

    unknown = attrs.evolve(HEALTHY, price=None, session_cost=None, total_cost=None)
    snapshots = watched.start(unknown)
    later = [next(snapshots) for _ in range(5)][-1].status
    assert (later.session_cost, later.total_cost) == (None, None)
    assert later.uptime_s == 104.0


def test_the_platform_is_asked_a_few_times_a_minute(watched: Any, clock: FakeClock) -> None:
    begun = clock.monotonic()
    snapshots = watched.start(HEALTHY)
    while clock.monotonic() - begun < 60.0:
        next(snapshots)
    assert 4 <= watched.looks <= 5


def test_the_lease_is_renewed_only_while_prompts_run(watched: Any, queue: FakeQueue) -> None:
    snapshots = watched.start(HEALTHY)
    next(snapshots)
    next(snapshots)
    assert watched.uses == 0
    queue.running = ("p",)
    next(snapshots)
    next(snapshots)
    assert watched.uses == 1
    queue.running, queue.ended = (), {"p": ended("success")}
    next(snapshots)
    before = watched.uses
    next(snapshots)
    assert watched.uses == before


@pytest.mark.parametrize("error", [TransportError("silent"), ApiError(status=502)])
def test_a_silent_comfyui_makes_it_ask_the_platform_at_once(
    watched: Any, queue: FakeQueue, clock: FakeClock, error: Exception
) -> None:
    snapshots = watched.start(HEALTHY, DevStatus())
    next(snapshots)
    queue.error = error
    begun = clock.monotonic()
    assert next(snapshots).prompts == ()
    assert not next(snapshots).status.is_there
    assert clock.monotonic() - begun <= 2.0
    with pytest.raises(StopIteration):
        next(snapshots)
    assert queue.closed


def test_a_starting_machine_is_shown_without_prompts(watched: Any, queue: FakeQueue) -> None:
    queue.running = ("p",)
    starting = DevStatus(health=Health.STARTING, server_id="s-1")
    snapshots = watched.start(starting, HEALTHY)
    assert next(snapshots).prompts == ()
    seen = [next(snapshots) for _ in range(15)]
    assert seen[-1].status.health == "healthy"
    assert [each.prompt_id for each in seen[-1].prompts] == ["p"]


def test_without_a_dev_server_there_is_one_snapshot(watched: Any, queue: FakeQueue) -> None:
    assert [each.status.is_there for each in watched.start(DevStatus())] == [False]
    assert not queue.closed


def test_the_connection_is_closed_when_the_watch_is_left(watched: Any, queue: FakeQueue) -> None:
    snapshots = watched.start(HEALTHY)
    next(snapshots)
    snapshots.close()
    assert queue.closed
