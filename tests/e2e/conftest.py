"""An emulator and sessions on it, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import DevServer, RunComfySession
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from support import HastyClock


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def session_on(emulator: Emulator) -> Callable[..., RunComfySession]:
    """Make a session that never waits for long."""

    def make(**options: Any) -> RunComfySession:
        return RunComfySession(options.pop("target", emulator), clock=HastyClock(), **options)

    return make


@pytest.fixture
def workflow(render: Path) -> FluxMeshWorkflow:
    return FluxMeshWorkflow(input_image=render, prompt="a brass automaton", width=128, height=128)


@pytest.fixture
def settings(emulator: Emulator, tmp_path: Path) -> Settings:
    """The emulator's account, with a dev server's file of this test alone."""
    given = Settings.of_environment(emulator.environment())
    return attrs.evolve(given, state_file=tmp_path / ".comfyloom" / "dev-server.json")


@pytest.fixture
def api(settings: Settings) -> Iterator[ServerApi]:
    """The emulator's account, by a clock that never waits for long."""
    made = ServerApi(
        settings.api_base_url, settings.user_id, settings.api_token, clock=HastyClock()
    )
    yield made
    made.close()


@pytest.fixture
def dev(settings: Settings) -> Callable[..., DevServer]:
    """Make a dev server that never waits for long; keywords change its settings."""

    def make(clock: Any = None, report: Any = None, **changes: Any) -> DevServer:
        given = attrs.evolve(settings, **changes)
        return DevServer(given, clock=clock or HastyClock(), on_progress=report)

    return make


@pytest.fixture
def slow() -> Iterator[Emulator]:
    """An emulator in real time, whose FLUX sampler takes 0.1 s a step and all else no time."""
    times = {"XlabsSampler": 10.0}
    with Emulator(time="real", startup_s=0.0, run_s=0.0, node_seconds=times) as running:
        yield running


@pytest.fixture
def long(workflow: FluxMeshWorkflow) -> FluxMeshWorkflow:
    return workflow.with_steps(100)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a test that sets one goes through a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
