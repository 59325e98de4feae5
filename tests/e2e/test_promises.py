"""Promises about money and order: nothing is rented for what cannot run, no sum hides a price."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfyloom import DevServer, RunComfySession
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, ManualClock
from comfyloom.errors import MachineError, OutputNotWritable
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow
from support import machines

Make = Callable[..., RunComfySession]


def test_nothing_is_rented_for_a_folder_that_cannot_be_written(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where a folder is expected")
    session = session_on()
    with pytest.raises(OutputNotWritable):
        session.run(workflow, out_dir=taken)
    session.close()
    assert machines(emulator) == []


def test_a_machine_of_unknown_price_makes_the_sum_unknown(workflow: FluxMeshWorkflow) -> None:
    with (
        Emulator(server_types=("giant",)) as emulator,
        RunComfySession(emulator, server_type="giant") as session,
    ):
        session.run(workflow)
        assert session.cost is None
    assert session.cost is None
    assert "0.0000 USD" not in session.summary[0]


def test_map_never_has_more_runs_under_way_than_asked_for(
    emulator: Emulator, workflow: FluxMeshWorkflow
) -> None:
    under_way: set[str] = set()
    most = 0
    lock = threading.Lock()
    with RunComfySession(emulator.comfyui_url) as session:
        submit = session.submit

        def counting(*args: Any, **options: Any) -> Any:
            nonlocal most
            run = submit(*args, **options)
            with lock:
                under_way.add(run.id)
                most = max(most, len(under_way))
            wait = run.wait

            def done(*given: Any, **named: Any) -> Any:
                try:
                    return wait(*given, **named)
                finally:
                    with lock:
                        under_way.discard(run.id)

            run.wait = done  # type: ignore[method-assign]
            return run

        session.submit = counting  # type: ignore[method-assign]
        for concurrency in (1, 3):
            most = 0
            jobs = [workflow.with_seed(seed).with_steps(1) for seed in range(5)]
            assert len(list(session.map(jobs, concurrency=concurrency))) == 5
            assert most == concurrency


def test_a_lease_that_would_end_at_once_is_refused(tmp_path: Path) -> None:
    """A new longest duration below the elapsed time plus a minute would end the machine."""
    with Emulator(time="manual", startup_s=0.0) as emulator:
        settings = Settings.of_environment(
            {**emulator.environment(), "COMFYLOOM_STATE_FILE": str(tmp_path / "dev.json")}
        )
        server = DevServer(settings)
        up = server.up("generate_flux_mesh")
        assert isinstance(emulator.clock, ManualClock)
        emulator.clock.advance(300)
        with pytest.raises(MachineError, match="has been running for"):
            server.up("generate_flux_mesh", duration_s=330)
        with ServerApi.of(settings) as api:
            assert api.get_server(up.server_id).estimated_duration != 330
        server.up("generate_flux_mesh", duration_s=400)
        with ServerApi.of(settings) as api:
            assert api.get_server(up.server_id).estimated_duration == 400
        server.down(force=True)
