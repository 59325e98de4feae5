"""Tests of the launcher; comfyloom's fixtures emulate the account.

Run them with `python -m pytest examples/launcher` in the root of the clone.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from launcher import main, make_mesh
from PIL import Image, ImageDraw

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator, ManualClock, RunFault
from comfyloom.errors import RunCancelled, RunFailed, RunLost
from comfyloom.testing import Faults
from comfyloom_workflows import FluxMeshWorkflow


@pytest.fixture
def render(tmp_path: Path) -> Path:
    """A small input image."""
    image = Image.new("RGB", (128, 128), "lightgrey")
    ImageDraw.Draw(image).ellipse((30, 20, 98, 108), "dimgrey")
    image.save(tmp_path / "render.png")
    return tmp_path / "render.png"


def test_a_mesh_is_saved(comfyloom_session: RunComfySession, render: Path, tmp_path: Path) -> None:
    shown: list[str] = []
    result = make_mesh(comfyloom_session, render, "a brass robot", tmp_path / "out", shown.append)
    assert result.mesh.path == tmp_path / "out" / "partpacker_result_0.glb"
    assert shown[-1].startswith("100% finished")


def test_a_failing_node_raises_and_leaves_no_files(
    comfyloom_session: RunComfySession, comfyloom_faults: Faults, render: Path, tmp_path: Path
) -> None:
    comfyloom_faults.on("run-out-of-memory")
    with pytest.raises(RunFailed, match="memory"):
        make_mesh(comfyloom_session, render, "a robot", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_server_restart_during_the_run_raises(
    comfyloom_session: RunComfySession, comfyloom_faults: Faults, render: Path, tmp_path: Path
) -> None:
    comfyloom_faults.add(RunFault(action="restart", class_type="XlabsSampler", step=3))
    with pytest.raises(RunLost):
        make_mesh(comfyloom_session, render, "a robot", tmp_path / "out")


@pytest.mark.comfyloom(run_s=60)
def test_a_cancelled_run_is_interrupted_on_the_server(
    comfyloom_emulator: Emulator,
    comfyloom_clock: ManualClock,
    comfyloom_session: RunComfySession,
    render: Path,
) -> None:
    run = comfyloom_session.submit(FluxMeshWorkflow(input_image=render, prompt="a robot"))
    events = run.events()
    assert next(each for each in events if each.kind == "started")
    threading.Thread(target=comfyloom_clock.advance, args=(30.0,)).start()  # half of the run
    assert next(each for each in events if each.fraction > 0.2)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.wait()
    assert [each["status"] for each in comfyloom_emulator.state()["prompts"]] == ["interrupted"]


def test_the_program_saves_its_files_and_stops_its_machine(
    comfyloom_account: Emulator, render: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(render), "a brass robot"]) == 0
    assert (tmp_path / "out" / "flux.png").is_file()
    (machine,) = comfyloom_account.state()["machines"]
    assert machine["stopped_at"]


def test_a_missing_render_is_reported_and_leaves_no_machine(
    comfyloom_account: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["no-such.png", "a robot"]) == 1
    assert "no-such.png" in capsys.readouterr().err
    assert [each for each in comfyloom_account.state()["machines"] if not each["stopped_at"]] == []
