"""States and their transitions: machines, watches, cycles, and files that are replaced at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import RunComfySession
from comfyloom._backends.comfyui import ComfyUIBackend
from comfyloom._comfyui.poll_schedule import PollSchedule
from comfyloom._core.atomic_write import replacing, write_atomically
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, PollIntervals, Timeouts
from comfyloom._machines.launched import LaunchedMachine, MachineState
from comfyloom._machines.lease import Lease
from comfyloom._machines.stopping import Stopping
from comfyloom._runcomfy.models import Server
from comfyloom._session.lifetime import SessionState
from comfyloom._session.run import Run
from comfyloom._workflow.graph import cycle_in
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.validation import validate
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    GraphError,
    MachineError,
    MachineLeak,
    NotFound,
    Unauthorized,
)
from comfyloom_workflows import FluxMeshWorkflow
from guard_lab import soon
from machines_lab import RecordingTracker
from support import FakeClock

# --- polling -------------------------------------------------------------------------------------


def test_an_event_before_the_last_one_hurries_the_next_poll() -> None:
    schedule = PollSchedule(PollIntervals(), begun=0.0)
    schedule.event_arrived(4.9)
    calm = schedule.next_poll(4.9, is_connected=True)
    schedule.end_poll(4.9)
    schedule.begin_poll(4.9, is_cancelling=False)
    schedule.event_arrived(5.0)
    assert schedule.next_poll(5.0, is_connected=True) > 6.0
    schedule.run_ending(5.0)
    assert schedule.next_poll(5.0, is_connected=True) == pytest.approx(5.25)
    assert calm > 4.9


def test_a_run_missed_twice_in_a_row_is_lost() -> None:
    schedule = PollSchedule(PollIntervals(), begun=0.0)
    assert [schedule.missed(1.0), schedule.missed(1.3)] == [False, True]


# --- machines ------------------------------------------------------------------------------------


@attrs.define
class Platform:
    """A Server API that launches one machine, and stops it."""

    clock: FakeClock
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    tells_time: bool = True
    refusals: int = 0
    stopped: list[str] = attrs.field(factory=list[str])
    may_answer: threading.Event = attrs.field(factory=threading.Event)

    def now(self) -> float:
        return self.clock.time()

    def list_servers(self, **_: Any) -> list[Server]:
        return []

    def launch(self, *_: Any) -> Server:
        assert self.may_answer.wait(30)
        return Server(server_id="s-1", server_type="medium")

    def stop_server(self, server_id: str, **_: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unauthorized("no", status=401)
        self.stopped.append(server_id)


def test_a_machine_stopped_while_it_is_launched_ends_once_the_launch_is_answered(
    clock: FakeClock,
) -> None:
    api = Platform(clock, Timeouts(launch_answer_s=0.05))
    machine = LaunchedMachine(api, "medium")  # type: ignore[arg-type]
    errors: list[BaseException] = []

    def launch() -> None:
        try:
            machine.launch("version")
        except MachineError as error:
            errors.append(error)

    launching = threading.Thread(target=launch)
    launching.start()
    assert soon(lambda: machine.state is MachineState.LAUNCHING)
    with pytest.raises(MachineError, match="no answer yet"):
        machine.stop()
    assert machine.state is MachineState.ABANDONED
    api.may_answer.set()
    launching.join(30)
    assert api.stopped == ["s-1"]
    assert machine.state is MachineState.STOPPED
    assert "while it was being launched" in str(errors[0])


class SlowTracker(RecordingTracker):
    """Another thread stops the machine while its launch is being recorded."""

    def __init__(self, stop: Callable[[], None]) -> None:
        super().__init__()
        self.stop = stop

    def record_launched(self, server_id: str) -> None:
        super().record_launched(server_id)
        self.stop()


def test_a_machine_stopped_while_its_launch_is_recorded_is_not_kept(clock: FakeClock) -> None:
    api = Platform(clock, Timeouts(launch_answer_s=0.05))
    api.may_answer.set()
    leaks: list[str] = []

    def stop_elsewhere() -> None:
        def stop() -> None:
            try:
                machine.stop()
            except MachineLeak as error:
                leaks.append(str(error))

        thread = threading.Thread(target=stop)
        thread.start()
        thread.join(30)

    tracker = SlowTracker(stop_elsewhere)
    machine = LaunchedMachine(api, "medium", tracker=tracker)  # type: ignore[arg-type]
    with pytest.raises(MachineError, match="stopped while it was being launched"):
        machine.launch("version")
    assert len(leaks) == 1  # the recording took longer than the stop could wait
    assert api.stopped == ["s-1"]
    assert machine.state is MachineState.STOPPED


def test_a_machine_stopped_before_its_launch_is_sent_is_not_launched(clock: FakeClock) -> None:
    """Listing the machines, or waiting for another launch, may take minutes."""
    tracker = RecordingTracker()

    class SlowList(Platform):
        def list_servers(self, **_: Any) -> list[Server]:
            with contextlib.suppress(MachineLeak):  # it cannot know whether the launch was sent
                machine.stop()
            return []

        def launch(self, *_: Any) -> Server:
            raise AssertionError("it was launched")

    api = SlowList(clock, Timeouts(launch_answer_s=0.05))
    machine = LaunchedMachine(api, "medium", tracker=tracker)  # type: ignore[arg-type]
    with pytest.raises(MachineError, match="stopped before it was launched"):
        machine.launch("version")
    assert machine.leak is None
    assert tracker.calls[-1] == "ended: not sent"


def stopping_of(api: Platform, **options: Any) -> Stopping:
    """Return the stop of a machine that was launched an hour ago."""
    given: dict[str, Any] = {"was_seen": True, "launched_at": api.clock.monotonic() - 3600}
    return Stopping(api=api, server_id="s-1", server_type="medium", **(given | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    "answer", [NotFound("a gateway's page", status=404), ApiError("not JSON", status=200)]
)
def test_a_stop_is_believed_only_if_the_list_lacks_the_machine_too(
    clock: FakeClock, answer: ApiError, seen: bool
) -> None:
    """A gateway may answer in the platform's place."""

    class Gateway(Platform):
        lists = 0

        def stop_server(self, server_id: str, **_: Any) -> None:
            raise answer

        def list_servers(self, **_: Any) -> list[Server]:
            type(self).lists += 1
            status = {1: "Ready", 2: "Ready"}.get(self.lists, "Deleting")
            return [Server(server_id="s-1", current_status=status)]

    stopping = stopping_of(Gateway(clock), was_seen=seen)
    assert stopping.confirm().by == ("not found" if answer.status == 404 else "deleted")
    assert Gateway.lists == 3
    Gateway.lists = 0
    with pytest.raises(MachineLeak):
        stopping.confirm(0.0)


def test_a_stop_may_be_tried_only_once(clock: FakeClock) -> None:
    api = Platform(clock, refusals=5)
    stopping = stopping_of(api)
    with pytest.raises(MachineLeak):
        stopping.confirm(0.0)
    assert api.refusals == 4


def test_an_idle_machine_that_is_used_is_ready_again(clock: FakeClock) -> None:
    machine = LaunchedMachine(Platform(clock), "medium", idle_timeout_s=60.0)  # type: ignore[arg-type]
    machine.lease = Lease(machine.api, "s-1", 1000, 5000)
    machine.comfyui = object()  # type: ignore[assignment]
    machine._states.state = MachineState.READY
    machine.touch()
    clock.sleep(61)
    machine.beat()
    assert machine.state is MachineState.IDLE
    machine.touch()
    assert machine.state is MachineState.READY


@pytest.mark.parametrize("retries", [True, False])
def test_a_refused_stop_is_repeated_only_if_asked_for(clock: FakeClock, retries: bool) -> None:
    api = Platform(clock, refusals=1)
    stopping = stopping_of(api, retry_auth_errors=retries)
    if retries:
        assert stopping.confirm().by == "deleted"
        return
    with pytest.raises(Unauthorized):
        stopping.confirm()
    assert api.stopped == []


# --- sessions and runs ---------------------------------------------------------------------------


def test_a_signal_before_the_release_starts_does_not_prevent_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupts = [KeyboardInterrupt()]

    def interrupted(action: Callable[[], None], **_: Any) -> None:
        if interrupts:
            raise interrupts.pop()
        action()

    monkeypatch.setattr("comfyloom._session.lifetime.defer_signals", interrupted)
    session = RunComfySession("http://127.0.0.1:1")
    with pytest.raises(KeyboardInterrupt):
        session.__exit__(None, None, None)
    with pytest.raises(ComfyloomError, match="closed"):
        session.start()
    assert session._lifetime.state is SessionState.CLOSED


class Stubborn:
    """An execution that does not end when it is cancelled."""

    prompt_id = "p"

    def __init__(self) -> None:
        self.backend = ComfyUIBackend(
            "http://127.0.0.1:1", timeouts=Timeouts(leave_cancel_s=0.05, run_cancel_s=0.01)
        )
        self.released = threading.Event()

    def run(self) -> None:
        self.released.wait(30)

    def cancel(self) -> None: ...

    def cancel_on_server(self) -> None: ...


def test_a_run_whose_end_is_not_confirmed_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    execution = Stubborn()
    run = Run[Any](lambda _: execution)  # type: ignore[arg-type, return-value]
    run.cancel()
    run.cancel()
    execution.released.set()
    assert caplog.text.count("may still be running") == 1


# --- graphs --------------------------------------------------------------------------------------


def linked(**links: str) -> dict[str, dict[str, Any]]:
    """Return a graph of nodes of unknown type, each linked to the nodes in its text."""
    return {
        node: {"class_type": "K", "inputs": {to: [to, 0] for to in sources}}
        for node, sources in links.items()
    }


def test_a_node_of_unknown_type_counts_as_an_output_node() -> None:
    view = GraphView(linked(a="b", b="", c=""), Schemas({}))
    assert view.needed == {"a", "b", "c"}
    known = Schemas({"K": {"output_node": False}})
    assert GraphView(linked(a="b", b=""), known).needed == set()


def test_only_a_cycle_that_an_output_needs_stops_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    template = FluxMeshWorkflow.template_graph()
    loop = {
        "900": {"class_type": "VAEDecode", "inputs": {"samples": ["901", 0], "vae": ["8", 0]}},
        "901": {"class_type": "VAEDecode", "inputs": {"samples": ["900", 0], "vae": ["8", 0]}},
    }
    workflow = FluxMeshWorkflow(input_image="x.png", prompt="x")
    graph = template | loop
    monkeypatch.setattr("comfyloom._workflow.run_values.run_graph", lambda *_, **__: graph)
    validate(workflow)  # no output needs the two
    assert cycle_in(GraphView(graph, Schemas({})).links)
    saver = {"class_type": "SaveImage", "inputs": {"images": ["900", 0], "filename_prefix": "x"}}
    graph = template | loop | {"902": saver}
    with pytest.raises(GraphError):
        validate(workflow)


# --- files that are replaced at once -------------------------------------------------------------


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_atomically(path, b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]
    write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
