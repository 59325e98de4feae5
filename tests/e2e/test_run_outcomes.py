"""Runs that end without a result, and runs that survive a failing network."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.downloads import Download, fetch
from comfyloom._comfyui.history import FileReference
from comfyloom._core.waiting import Deadline
from comfyloom._session.staging import StagingDir
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.emulator import Emulator, HttpFault, RunFault, SocketFault
from comfyloom.errors import (
    GraphError,
    MachineError,
    OutputMissing,
    OutputNotWritable,
    PromptRejected,
    RunCancelled,
    RunFailed,
    RunLost,
    RunTimeout,
)
from comfyloom_workflows import FluxMeshWorkflow
from support import assert_nothing_runs, prompts, request_count

Make = Callable[..., RunComfySession]


# --- rejected, failed and incomplete runs ---------------------------------------------------------


def test_a_rejected_prompt_names_the_node(
    emulator: Emulator,
    session_on: Make,
    workflow: FluxMeshWorkflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: FluxMeshWorkflow, **_: Any) -> Any:
        graph = self.template_graph()
        graph["3"]["inputs"]["steps"] = 0
        return graph

    monkeypatch.setattr("comfyloom._workflow.run_values.run_graph", broken)
    # As when the class was generated from other schemas than the server has.
    monkeypatch.setattr("comfyloom._workflow.validation.validate", lambda *_: None)
    with session_on() as session, pytest.raises(PromptRejected) as caught:
        session.run(workflow)
    assert "node 3 (XlabsSampler)" in str(caught.value)
    assert_nothing_runs(emulator)


def test_an_invalid_graph_is_refused_before_anything_is_launched(
    emulator: Emulator,
    session_on: Make,
    workflow: FluxMeshWorkflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: FluxMeshWorkflow, **_: Any) -> Any:
        graph = self.template_graph()
        graph["3"]["inputs"]["steps"] = 0
        graph["4"]["inputs"]["type"] = "fluks"
        return graph

    monkeypatch.setattr("comfyloom._workflow.run_values.run_graph", broken)
    session = session_on()
    with pytest.raises(GraphError, match="did you mean 'flux'") as caught:
        session.run(workflow)
    assert caught.value.node == "3"
    assert len(caught.value.problems) == 2
    assert not emulator.state()["machines"]
    assert not emulator.state()["requests"]


def test_a_partly_accepted_prompt_is_rejected_and_withdrawn(
    emulator: Emulator,
    session_on: Make,
    workflow: FluxMeshWorkflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: FluxMeshWorkflow, **_: Any) -> Any:
        graph = self.template_graph()
        graph["32"]["inputs"]["target_num_faces"] = 2**31
        graph["16"]["inputs"]["image"] = "example.png"
        return graph

    monkeypatch.setattr("comfyloom._workflow.run_values.run_graph", broken)
    monkeypatch.setattr("comfyloom._workflow.validation.validate", lambda *_: None)
    with session_on() as session:
        with pytest.raises(PromptRejected, match="target_num_faces") as caught:
            session.run(workflow)
        assert caught.value.status == 200
    assert_nothing_runs(emulator)


def test_a_node_that_raises_fails_the_run(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    emulator.faults.add(RunFault(action="raise", node="32", message="out of tissue"))
    with session_on() as session, pytest.raises(RunFailed, match="out of tissue") as caught:
        session.run(workflow, out_dir=tmp_path / "out")
    assert (caught.value.node, caught.value.node_type) == ("32", "PartPacker_Sampler")
    assert caught.value.traceback
    assert not (tmp_path / "out").exists()
    assert_nothing_runs(emulator)


@pytest.mark.parametrize(
    "fault",
    [
        RunFault(action="no_output", node="33"),
        RunFault(action="truncate", node="33", size=100),
        RunFault(action="truncate", node="33", size=0),
    ],
)
def test_a_missing_or_truncated_result_is_an_error(
    emulator: Emulator,
    session_on: Make,
    workflow: FluxMeshWorkflow,
    tmp_path: Path,
    fault: RunFault,
) -> None:
    emulator.faults.add(fault)
    with session_on() as session, pytest.raises(OutputMissing) as caught:
        session.run(workflow, out_dir=tmp_path / "out")
    assert (caught.value.field, caught.value.node) == ("mesh", "33")
    assert not (tmp_path / "out").exists()


def test_an_out_dir_that_cannot_be_written_is_refused_before_the_run(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with session_on() as session, pytest.raises(OutputNotWritable):
        session.run(workflow, out_dir=tmp_path / "file")
    assert prompts(emulator) == []


# --- timeouts and cancelled runs ------------------------------------------------------------------


def test_a_run_that_takes_too_long_is_interrupted(slow: Emulator, long: FluxMeshWorkflow) -> None:
    with RunComfySession(slow.comfyui_url) as session:
        with pytest.raises(RunTimeout):
            session.run(long, timeout=0.4)
        assert prompts(slow)[0]["status"] == "interrupted"
        run = session.submit(long)
        with pytest.raises(RunTimeout):
            run.wait(timeout=0.2)
        assert prompts(slow)[1]["status"] == "interrupted"


@pytest.mark.parametrize("path", ["/upload/image", "/view"])
def test_the_timeout_of_a_run_covers_uploads_and_downloads(
    emulator: Emulator, workflow: FluxMeshWorkflow, path: str
) -> None:
    with Emulator(time="real", startup_s=0.0, run_s=0.0) as real:
        real.faults.add(HttpFault(action="hang", path=path, times=100))
        with RunComfySession(real.comfyui_url) as session:
            begun = time.monotonic()
            with pytest.raises(RunTimeout):
                session.run(workflow, timeout=1.0)
            assert time.monotonic() - begun < 10.0


def test_a_trickling_download_does_not_outlive_its_timeout() -> None:
    """The server sends a byte every 20 ms, so no read times out."""
    body = b"\x89PNG\r\n\x1a\n" + bytes(2000)

    class Trickle(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Trickle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spec = OutputSpec(kind="image", node="1", key="images", file="a.png")
        wanted = Download(spec, FileReference(filename="a.png"), "a.png")
        scope = CancelScope(Deadline.after(0.5))
        comfyui = ComfyUI(f"http://127.0.0.1:{server.server_port}")
        begun = time.monotonic()
        staging = StagingDir()
        with pytest.raises(RunTimeout):
            fetch(comfyui, wanted, staging.folder, "p", scope=scope)
        staging.close()
        assert time.monotonic() - begun < 5
        comfyui.close()
        server.shutdown()


def test_many_runs_are_cancelled_together(slow: Emulator, long: FluxMeshWorkflow) -> None:
    with RunComfySession(slow.comfyui_url) as session:
        runs = [session.submit(long.with_seed(seed)) for seed in range(8)]
        next(progress for progress in runs[0].events() if progress.kind == "step")
        begun = time.monotonic()
    assert time.monotonic() - begun < 4.5
    assert {run.status for run in runs} == {"cancelled"}
    assert_nothing_runs(slow)


def test_waiting_and_running_runs_can_be_cancelled(slow: Emulator, long: FluxMeshWorkflow) -> None:
    with RunComfySession(slow.comfyui_url) as session:
        first, second = session.submit(long), session.submit(long.with_seed(1))
        # In a sampler: the server checks for interrupts at each step.
        next(progress for progress in first.events() if progress.kind == "step")
        next(progress for progress in second.events() if progress.position == 1)
        second.cancel()
        first.cancel()
        second.cancel()
        for run, status in ((first, "interrupted"), (second, "deleted")):
            with pytest.raises(RunCancelled):
                run.wait(timeout=10)
            found = {row["prompt_id"]: row["status"] for row in prompts(slow)}
            assert found[run.id] == status


# --- servers and networks that fail ---------------------------------------------------------------


def test_a_run_that_the_server_forgets_is_lost(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    emulator.faults.add(RunFault(action="restart", node="3", step=5))
    with session_on() as session, pytest.raises(RunLost):
        session.run(workflow)


def test_a_machine_that_dies_during_a_run_is_reported(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    emulator.faults.add(RunFault(action="die", node="3", step=5))
    with session_on() as session, pytest.raises(MachineError, match="has ended"):
        session.run(workflow)
    assert_nothing_runs(emulator)


@pytest.mark.parametrize(
    "fault",
    [
        SocketFault(action="refuse", times=1000),
        SocketFault(action="drop", frames=40),
        SocketFault(action="drop", frames=0),
        SocketFault(action="silence", frames=30),
        HttpFault(path="/prompt$", method="POST", status=503, times=2),
        HttpFault(path="/history/", status=502, times=2),
        HttpFault(path="/history/", action="drop"),
        HttpFault(path="/view", action="cut", size=1000, times=2),
        HttpFault(path="/view", status=503),
        HttpFault(path="/upload/image", status=502),
        HttpFault(path="/prompt$", method="POST", action="lose_answer"),
        HttpFault(path="/system_stats", status=502, times=3),
        HttpFault(path="/servers/", method="GET", status=500, times=3),
    ],
    ids=lambda fault: f"{fault.action}-{getattr(fault, 'path', 'socket')}",
)
def test_a_run_survives(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, fault: Any
) -> None:
    emulator.faults.add(fault)
    with session_on() as session:
        result = session.run(workflow)
    assert result.mesh.size > 1000
    assert [prompt["status"] for prompt in prompts(emulator)] == ["success"]
    assert_nothing_runs(emulator)


def test_a_prompt_that_never_arrived_is_lost_and_not_repeated(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    emulator.faults.add(HttpFault(path="/prompt$", method="POST", action="drop"))
    with session_on() as session, pytest.raises(RunLost, match="not sent again"):
        session.run(workflow)
    assert request_count(emulator, "/prompt", "POST") <= 1
    assert prompts(emulator) == []
