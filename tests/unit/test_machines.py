"""A machine's life against a control plane that misbehaves in every way; nothing ever sleeps."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._machines import launched as machine_module
from comfyloom._machines.heartbeat import HEARTBEAT, Heartbeat
from comfyloom._machines.launch import draw_lease
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._machines.lease import Lease
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.models import Server
from comfyloom.errors import (
    ApiError,
    MachineError,
    MachineLeak,
    MachineStartFailed,
    MachineTimeout,
    NotFound,
    TransportError,
    Unauthorized,
)
from comfyloom.progress import Progress
from support import FakeClock


@attrs.define
class FakeApi:
    """The Server API as a script: each call's answers in turn, the last for ever."""

    clock: FakeClock
    script: dict[str, list[Any]]
    calls: list[tuple[str, Any]] = attrs.field(factory=list)
    ready_at: float = 0.0
    tells_time: bool = True
    timeouts: Timeouts = DEFAULT_TIMEOUTS

    def now(self) -> float:
        return self.clock.time()

    def list_servers(self, **_: Any) -> Any:
        return self._answer("list", None)

    def launch(self, version: str, server_type: str, duration_s: int) -> Any:
        return self._answer("launch", (version, server_type, duration_s))

    def get_server(self, server_id: str, **_: Any) -> Any:
        return self._answer("get", server_id)

    def set_duration(self, server_id: str, duration_s: int, **_: Any) -> Any:
        return self._answer("extend", duration_s)

    def stop_server(self, server_id: str, **_: Any) -> Any:
        return self._answer("stop", server_id)

    def count(self, name: str) -> int:
        return sum(1 for call, _ in self.calls if call == name)

    def _answer(self, name: str, argument: Any) -> Any:
        self.calls.append((name, argument))
        answers = self.script[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(self) if callable(answer) else answer


class FakeComfyUI:
    """Answers after so many refusals."""

    refusals = 0
    closed = False

    def system_stats(self, **_: Any) -> dict[str, Any]:
        if FakeComfyUI.refusals > 0:
            FakeComfyUI.refusals -= 1
            raise TransportError("refused")
        return {"system": {}}

    def close(self) -> None:
        self.closed = True


STARTING = Server(server_id="s-1", server_type="medium", current_status="Starting")


def ready(api: FakeApi) -> Server:
    api.ready_at = api.ready_at or api.clock.time()
    return Server(
        server_id="s-1",
        server_type="medium",
        current_status="Ready",
        main_service_url="https://s-1-comfyui.runcomfy.com",
        service_ready_at=datetime.fromtimestamp(api.ready_at, UTC),
    )


@pytest.fixture
def make(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[LaunchedMachine, FakeApi]]]:
    FakeComfyUI.refusals = 0
    made: list[LaunchedMachine] = []
    starting = machine_module.Starting

    def with_fake(**given: Any) -> Any:
        return starting(**given, connect=lambda *_, **__: FakeComfyUI())  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(machine_module, "Starting", with_fake)

    def make(**script: Any) -> tuple[LaunchedMachine, FakeApi]:
        normal = {"list": [[]], "launch": [STARTING], "get": [STARTING, ready], "stop": [None]}
        api = FakeApi(clock, normal | script)
        made.append(LaunchedMachine(api, "medium", rng=random.Random(7)))  # type: ignore[arg-type]
        return made[-1], api

    yield make
    for machine in made:
        HEARTBEAT.remove(machine.beat)


def start(machine: LaunchedMachine, seen: list[Progress] | None = None) -> None:
    machine.start("version", (seen if seen is not None else []).append)


def test_a_lease_is_distinctive() -> None:
    leases = [draw_lease(random.Random(seed)) for seed in range(500)]
    assert all(900 <= lease <= 1799 for lease in leases)
    assert not any(lease % 60 == 0 for lease in leases)
    assert len(set(leases)) > 250


def test_a_whole_life(make: Any, clock: FakeClock) -> None:
    machine, api = make(get=[STARTING, STARTING, ready])
    seen: list[Progress] = []
    start(machine, seen)
    assert machine.server_id == "s-1"
    assert [progress.kind for progress in seen] == ["machine"] * 3
    assert "usually 120 to 300 s" in seen[1].message
    assert seen[-1].message.startswith("ready after")
    clock.sleep(3600)
    machine.stop()
    machine.stop()
    assert api.count("launch") == api.count("stop") == 1
    assert machine.billed_s == pytest.approx(3600, abs=2)
    assert str(machine.cost) == "0.9900"


def test_the_platform_may_not_know_a_young_machine(make: Any) -> None:
    machine, _ = make(get=[NotFound(), NotFound(), ready])
    start(machine)
    assert machine.comfyui is not None


def test_a_machine_that_stays_unknown_has_failed(make: Any, clock: FakeClock) -> None:
    machine, _ = make(get=[NotFound()])
    with pytest.raises(MachineStartFailed):
        start(machine)
    assert sum(clock.slept) == pytest.approx(60, abs=3)


@pytest.mark.parametrize("status", ["Error", "Deleting", "stopped"])
def test_an_end_while_starting_fails_at_once(make: Any, status: str, clock: FakeClock) -> None:
    ended = attrs.evolve(STARTING, current_status=status)
    machine, api = make(get=[STARTING, ended], stop=[NotFound()])
    with pytest.raises(MachineStartFailed, match=status) as caught:
        start(machine)
    assert caught.value.server_id == "s-1"
    machine.stop()
    assert api.count("stop") == 1
    assert sum(clock.slept) < 10


def test_a_start_takes_thirty_minutes_at_most(make: Any, clock: FakeClock) -> None:
    machine, _ = make(get=[STARTING])
    with pytest.raises(MachineTimeout, match="Starting"):
        start(machine)
    assert sum(clock.slept) == pytest.approx(1800, abs=3)


def test_passing_trouble_does_not_forget_a_machine(make: Any) -> None:
    machine, _ = make(get=[TransportError(), ApiError(status=500), ready])
    start(machine)
    assert machine.comfyui is not None


def test_a_token_that_is_refused_ends_the_wait(make: Any) -> None:
    machine, _ = make(get=[Unauthorized(status=401)])
    with pytest.raises(Unauthorized):
        start(machine)


def test_ready_is_not_yet_answering(make: Any, clock: FakeClock) -> None:
    FakeComfyUI.refusals = 5
    machine, _ = make(get=[ready])
    FakeComfyUI.refusals = 5
    start(machine)
    assert len(clock.slept) == 5


def test_an_end_between_ready_and_answering(make: Any) -> None:
    machine, _ = make(get=[ready, attrs.evolve(STARTING, current_status="Error")])
    FakeComfyUI.refusals = 99
    with pytest.raises(MachineStartFailed):
        start(machine)


# --- a launch whose answer is lost ---------------------------------------------------------------


def ours(api: FakeApi) -> list[Server]:
    lease = next(argument for name, argument in api.calls if name == "launch")[2]
    foreign = attrs.evolve(STARTING, server_id="foreign", estimated_duration=600)
    mine = attrs.evolve(STARTING, server_id="s-1", estimated_duration=lease)
    return [foreign, mine]


def test_a_lost_answer_is_found_by_its_lease(make: Any) -> None:
    machine, api = make(launch=[TransportError(sent=True)], list=[[], [], ours])
    start(machine)
    assert machine.server_id == "s-1"
    assert api.count("launch") == 1


@pytest.mark.parametrize("failure", [ApiError(status=code) for code in (502, 200, 408, 499)])
def test_an_answer_that_says_nothing_is_searched_for_as_well(make: Any, failure: ApiError) -> None:
    machine, api = make(launch=[failure], list=[[], ours])
    start(machine)
    assert api.count("launch") == 1


def test_a_machine_that_was_there_before_is_not_ours(make: Any, clock: FakeClock) -> None:
    lease = draw_lease(random.Random(7))
    older = attrs.evolve(STARTING, server_id="older", estimated_duration=lease)
    machine, api = make(launch=[TransportError(sent=True)], list=[[older]])
    with pytest.raises(MachineStartFailed, match="no machine appeared"):
        start(machine)
    machine.stop()
    assert api.count("launch") == 1
    assert api.count("stop") == 0
    assert sum(clock.slept) == pytest.approx(60, abs=3)


def test_two_candidates_are_left_alone_loudly(make: Any) -> None:
    lease = draw_lease(random.Random(7))
    both = [attrs.evolve(STARTING, server_id=name, estimated_duration=lease) for name in "ab"]
    machine, api = make(launch=[TransportError(sent=True)], list=[[], both])
    with pytest.raises(MachineLeak, match="a b may be its machine"):
        start(machine)
    machine.stop()
    assert api.count("stop") == 0


@pytest.mark.parametrize("refusal", [ApiError(status=422), TransportError(sent=False)])
def test_a_refused_launch_is_not_searched_for(make: Any, refusal: Exception) -> None:
    machine, api = make(launch=[refusal])
    with pytest.raises(type(refusal)):
        start(machine)
    assert api.count("list") == 1
    assert api.count("launch") == 1


def test_a_new_machine_with_another_duration_is_named(make: Any) -> None:
    stranger = attrs.evolve(STARTING, server_id="stranger", estimated_duration=1200)
    machine, api = make(launch=[TransportError(sent=True)], list=[[], [stranger]])
    with pytest.raises(MachineLeak, match="stranger may be its machine"):
        start(machine)
    machine.stop()
    assert api.count("stop") == 0


def test_a_lost_answer_that_nobody_could_look_for_is_a_leak(make: Any) -> None:
    machine, api = make(launch=[TransportError(sent=True)], list=[[], TransportError()])
    with pytest.raises(MachineLeak, match="does not list"):
        start(machine)
    assert api.count("launch") == 1


def test_a_platform_that_does_not_list_can_still_launch(make: Any) -> None:
    machine, _ = make(list=[ApiError(status=500)])
    start(machine)
    assert machine.comfyui is not None


# --- the lease -----------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_the_machine_is_used(make: Any, clock: FakeClock) -> None:
    machine, api = make(extend=[lambda api: ready(api)])
    start(machine)
    begun = clock.now
    for _ in range(200):
        machine.touch()
        clock.sleep(10.0)
    durations = [argument for name, argument in api.calls if name == "extend"]
    assert 1 <= len(durations) <= 4
    lease = draw_lease(random.Random(7))
    assert durations[0] >= lease + lease / 2 - 60
    assert clock.now - begun == 2000


def test_a_lease_that_cannot_be_renewed_does_not_end_the_run(make: Any, clock: FakeClock) -> None:
    machine, api = make(extend=[TransportError()])
    start(machine)
    for _ in range(100):
        machine.touch()
        clock.sleep(10.0)
    assert 2 < api.count("extend") < 30


# --- the end -------------------------------------------------------------------------------------


def test_a_stop_is_repeated_until_confirmed(make: Any) -> None:
    machine, api = make(stop=[TransportError(), ApiError(status=500), None])
    start(machine)
    machine.stop()
    assert api.count("stop") == 3


def test_an_unknown_young_machine_is_not_taken_for_stopped(make: Any, clock: FakeClock) -> None:
    machine, api = make(get=[NotFound()], stop=[NotFound(), NotFound(), None])
    with pytest.raises(MachineStartFailed):
        start(machine)
    clock.now -= 55  # the start was given up early
    machine.stop()
    assert api.count("stop") == 3


def test_a_stop_that_is_never_confirmed_is_loud(make: Any) -> None:
    machine, _ = make(stop=[ApiError("refused", status=500)])
    start(machine)
    with pytest.raises(MachineLeak) as caught:
        machine.stop()
    for word in ("s-1", "medium", "0.99 USD an hour", "comfyloom machines stop s-1", "dashboard"):
        assert word in str(caught.value)
    assert caught.value.server_id == "s-1"


@pytest.mark.parametrize("answer", [NotFound(), attrs.evolve(STARTING, current_status="Stopped")])
def test_a_machine_that_died_is_known_to_have_died(make: Any, answer: Any) -> None:
    machine, _ = make(get=[ready, answer])
    start(machine)
    with pytest.raises(MachineError, match="ended during the run"):
        machine.check_alive()


def test_a_platform_that_is_out_of_reach_says_nothing_of_the_machine(make: Any) -> None:
    machine, _ = make(get=[ready, TransportError()])
    start(machine)
    machine.check_alive()


# --- heartbeat, forks, and what outlives the process ---------------------------------------------


@attrs.define
class Witness(NullTracker):
    """Remembers what it is told."""

    told: list[str] = attrs.field(factory=list[str])
    surrenders: bool = False

    def record_intent(self, seconds: int, before: frozenset[str] | None, lease_s: float) -> None:
        self.told.append(f"intend {sorted(before or ())}")
        self.is_guarded = self.surrenders

    def record_launched(self, server_id: str) -> None:
        self.told.append(f"launched {server_id}")

    def record_heartbeat(self) -> None:
        self.told.append("beat")

    def record_stopping(self) -> None:
        self.told.append("stopping")

    def record_ended(self, by: str) -> None:
        self.told.append(f"ended: {by}")

    def hand_over_to_guard(self) -> bool:
        self.told.append("surrender")
        return self.surrenders


def guarded(make: Any, **script: Any) -> tuple[LaunchedMachine, FakeApi, Witness]:
    machine, api = make(**script)
    machine.tracker = Witness(surrenders=True)
    return machine, api, machine.tracker


def test_all_is_written_down_before_and_after(make: Any) -> None:
    machine, api, tracker = guarded(make, list=[[attrs.evolve(STARTING, server_id="other")]])
    start(machine)
    machine.stop()
    assert tracker.told == ["intend ['other']", "launched s-1", "ended: deleted"]
    assert [name for name, _ in api.calls][:2] == ["list", "launch"]


def test_a_launch_that_is_refused_is_over(make: Any) -> None:
    machine, _, tracker = guarded(make, launch=[ApiError("no", status=422)])
    with pytest.raises(ApiError):
        start(machine)
    assert tracker.told == ["intend []", "ended: refused"]


def test_a_launch_that_cannot_be_looked_for_is_left_to_the_guard(make: Any) -> None:
    lost = [[], ApiError("no", status=500)]
    machine, _, tracker = guarded(make, launch=[TransportError("lost", sent=True)], list=lost)
    with pytest.raises(MachineLeak):
        start(machine)
    assert tracker.told == ["intend []", "surrender"]


def test_a_stop_is_left_to_the_guard_after_five_seconds(
    make: Any, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, _, tracker = guarded(make, stop=[ApiError("refused", status=500)])
    start(machine)
    begun = clock.now
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(MachineLeak) as caught:
            machine.stop()
    finally:
        logging.disable(logging.NOTSET)
    assert clock.now - begun == pytest.approx(5.0)
    assert tracker.told[-2:] == ["stopping", "surrender"]
    said = capsys.readouterr().err
    for word in ("s-1", "0.99 USD an hour", "comfyloom machines stop s-1", "guard process"):
        assert word in said
        assert word in str(caught.value)
    assert caught.value.already_printed


def test_signs_of_life_are_written_once_a_minute(make: Any, clock: FakeClock) -> None:
    machine, _, tracker = guarded(make)
    start(machine)
    for _ in range(40):
        clock.sleep(15)
        machine.beat()
    assert tracker.told.count("beat") == 10


def test_an_idle_machine_is_renewed_for_a_while_and_then_left_to_its_lease(
    make: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine, _ = make()
    start(machine)
    renewed: list[float] = []
    begun = clock.now
    monkeypatch.setattr(Lease, "touch", lambda *_: renewed.append(clock.now - begun))
    for _ in range(120):
        clock.sleep(15)
        machine.beat()
    assert renewed[-1] == 600.0
    assert len([each for each in caplog.messages if "is idle" in each]) == 1
    machine.touch()
    clock.sleep(15)
    machine.beat()
    assert renewed[-1] > 1800.0


def test_one_heartbeat_serves_all_and_ends_with_the_last() -> None:
    beats = {"a": 0, "b": 0}

    def a() -> None:
        beats["a"] += 1
        raise ValueError("of one machine")

    def b() -> None:
        beats["b"] += 1

    # One of another test may still be on its way out.
    before = set(threading.enumerate())

    def hearts() -> int:
        found = set(threading.enumerate()) - before
        return [each.name for each in found].count("comfyloom-heartbeat")

    heart = Heartbeat(every_s=0.005)
    heart.add(a)
    heart.add(b)
    assert hearts() == 1
    while min(beats.values()) < 3:
        threading.Event().wait(0.005)
    heart.remove(a)
    heart.remove(b)
    heart.remove(b)
    while hearts():
        threading.Event().wait(0.005)


def test_a_forked_child_stops_nothing(make: Any) -> None:
    machine, api = make()
    start(machine)
    machine._owner = -1  # as seen by a child
    machine.stop()
    assert api.count("stop") == 0
