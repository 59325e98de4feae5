"""A scripted Server API, a scripted ComfyUI, and launched machines that use them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._machines import launched as machine_module
from comfyloom._machines.heartbeat import HEARTBEAT
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._machines.starting import Starting
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.models import Server
from comfyloom.errors import TransportError
from comfyloom.progress import Progress
from support import FakeClock


@attrs.define
class FakeApi:
    """The Server API as a script: each call's answers in turn; the last one repeats."""

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
    """Answers once `refusals` requests were refused."""

    refusals = 0
    closed = False

    def __init__(self) -> None:
        self._http = SimpleNamespace()

    def system_stats(self, **_: Any) -> dict[str, Any]:
        if FakeComfyUI.refusals > 0:
            FakeComfyUI.refusals -= 1
            raise TransportError("refused")
        return {"system": {}}

    def close(self) -> None:
        self.closed = True


STARTING = Server(server_id="s-1", server_type="medium", current_status="Starting")


def ready(api: FakeApi) -> Server:
    """Return the machine as Ready since the first time it was asked for."""
    api.ready_at = api.ready_at or api.clock.time()
    return Server(
        server_id="s-1",
        server_type="medium",
        current_status="Ready",
        main_service_url="https://s-1-comfyui.runcomfy.com",
        service_ready_at=datetime.fromtimestamp(api.ready_at, UTC),
    )


@attrs.define
class RecordingTracker(NullTracker):
    """Keeps the names of the calls that it gets."""

    calls: list[str] = attrs.field(factory=list[str])
    may_hand_over: bool = False

    def record_intent(self, seconds: int, before: frozenset[str] | None, lease_s: float) -> None:
        self.calls.append(f"intent {sorted(before or ())}")
        self.is_guarded = self.may_hand_over

    def record_launched(self, server_id: str) -> None:
        self.calls.append(f"launched {server_id}")

    def record_heartbeat(self) -> None:
        self.calls.append("beat")

    def record_stopping(self) -> None:
        self.calls.append("stopping")

    def record_refused(self) -> None:
        self.calls.append("refused")

    def record_ended(self, by: str) -> None:
        self.calls.append(f"ended: {by}")

    def hand_over_to_guard(self) -> bool:
        self.calls.append("hand over")
        return self.may_hand_over


@contextmanager
def launched_machines(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[LaunchedMachine, FakeApi]]]:
    """Give a function that makes a machine and its scripted API; keywords are scripts."""
    FakeComfyUI.refusals = 0
    made: list[LaunchedMachine] = []

    def with_fake(**given: Any) -> Any:
        return Starting(**given, connect=lambda *_, **__: FakeComfyUI())  # type: ignore[arg-type]

    monkeypatch.setattr(machine_module, "Starting", with_fake)

    def make(**script: Any) -> tuple[LaunchedMachine, FakeApi]:
        normal: dict[str, list[Any]] = {
            "list": [[]],
            "launch": [STARTING],
            "get": [STARTING, ready],
            "stop": [None],
        }
        api = FakeApi(clock, normal | script)
        made.append(LaunchedMachine(api, "medium", rng=random.Random(7)))  # type: ignore[arg-type]
        return made[-1], api

    yield make
    for machine in made:
        HEARTBEAT.remove(machine.beat)


def start(machine: LaunchedMachine, seen: list[Progress] | None = None) -> None:
    """Launch a machine, and collect its progress in `seen`."""
    HEARTBEAT.add(machine.beat)
    machine.launch("version")
    machine.await_ready((seen if seen is not None else []).append)
