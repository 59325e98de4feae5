"""The main job over real sockets: a render and a prompt become a picture and a mesh."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import struct
import threading
import time
import warnings
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyloom import ImageOutput, MeshOutput, Progress, RunComfySession
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.downloads import Download, fetch
from comfyloom._comfyui.history import FileReference
from comfyloom._core.timeouts import Timeouts
from comfyloom._core.waiting import Deadline
from comfyloom._session.staging import StagingDir
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.emulator import Emulator, HttpFault, MachineFault, RunFault, SocketFault
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    ConfigError,
    Forbidden,
    GraphError,
    InputFileError,
    InputValueError,
    MachineError,
    MachineLeak,
    MachineStartFailed,
    NotFound,
    OutputMissing,
    OutputNotWritable,
    PromptRejected,
    RunCancelled,
    RunFailed,
    RunLost,
    RunTimeout,
    TransportError,
    Unauthorized,
)
from comfyloom.settings import Settings
from comfyloom_workflows import FluxMeshWorkflow

Make = Callable[..., RunComfySession]


def machines(emulator: Emulator) -> list[dict[str, Any]]:
    return emulator.state()["machines"]


def assert_nothing_runs(emulator: Emulator) -> None:
    assert all(machine["stopped_at"] for machine in machines(emulator))
    assert not any(prompt["status"] in ("running", "pending") for prompt in prompts(emulator))


def prompts(emulator: Emulator) -> list[dict[str, Any]]:
    return emulator.state()["prompts"]


def requests_to(emulator: Emulator, part: str, method: str | None = None) -> int:
    found = [row for row in emulator.state()["requests"] if part in row["path"]]
    return sum(1 for row in found if method in (None, row["method"]))


def forget(held: list[Any]) -> list[str]:
    """Drop what is held and return the warnings that this gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held.clear()
        gc.collect()
    return [str(warning.message) for warning in caught]


def test_the_main_job(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    with session_on() as session:
        assert machines(emulator)[0]["status"] == "Ready"
        result = session.run(workflow, on_progress=seen.append)
    assert isinstance(result.image, ImageOutput)
    assert isinstance(result.mesh, MeshOutput)
    assert result.image.save(tmp_path / "flux.png").read_bytes().startswith(b"\x89PNG")
    mesh = result.mesh.save(tmp_path).read_bytes()
    assert mesh[:4] == b"glTF"
    assert struct.unpack_from("<I", mesh, 8)[0] == len(mesh)
    assert (tmp_path / "partpacker_result_0.glb").is_file()
    assert result.seed is not None
    assert 0 <= result.seed < 2**53

    (machine,) = machines(emulator)
    assert machine["status"] == "Stopped"
    assert session.machine is not None
    assert session.machine.server_id == machine["server_id"]
    assert session.machine.billed_s == pytest.approx(machine["billed_seconds"], abs=1.5)
    assert session.cost is not None
    assert [prompt["status"] for prompt in prompts(emulator)] == ["success"]

    fractions = [progress.fraction for progress in seen if progress.kind in ("node", "step")]
    assert fractions == sorted(fractions)
    assert seen[-1].kind == "finished"
    assert seen[-1].fraction == 1.0
    assert {progress.stage for progress in seen} >= {"models", "FLUX sampling", "mesh", "export"}
    assert any(progress.preview for progress in seen)


def test_the_server_ran_what_was_asked_for(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    from PIL import Image

    with session_on() as session:
        result = session.run(workflow.with_seed(7))
    with Image.open(result.image.path) as picture:
        assert picture.size == (128, 128)
        assert picture.mode == "RGBA"
        graph = json.loads(picture.info["prompt"])
    assert graph["34"]["inputs"]["t5xxl"] == "a brass automaton"
    assert graph["3"]["inputs"]["noise_seed"] == graph["32"]["inputs"]["seed"] == 7
    assert result.seed == 7


def test_a_run_takes_few_requests(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    with session_on() as session:
        before = len(emulator.state()["requests"])
        session.run(workflow)
        made = emulator.state()["requests"][before:]
    plain = [row for row in made if row["status"] != 101]
    assert len(plain) <= 5, plain  # upload, prompt, history, two files


def test_out_dir_gets_all_files(
    session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    with session_on() as session:
        result = session.run(workflow, out_dir=tmp_path / "out")
    assert result.image.path == tmp_path / "out" / "flux.png"
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["flux.png", "partpacker_result_0.glb"]


def test_one_machine_serves_many_runs(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    jobs = [workflow.with_seed(seed) for seed in range(4)]
    with session_on() as session:
        results = list(session.map(jobs, concurrency=3))
    assert [result.seed for result in results] == [0, 1, 2, 3]
    assert len({result.prompt_id for result in results}) == 4
    assert len(machines(emulator)) == 1


def test_submit_watches_and_waits(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    with session_on() as session:
        run = session.submit(workflow)
        kinds = [progress.kind for progress in run.events()]
        result = run.wait()
        assert run.status == "succeeded"
        assert run.id == result.prompt_id
        assert run.progress.kind == kinds[-1] == "finished"
        assert list(run.events()) == []
    assert "step" in kinds


def test_a_plain_comfyui(emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow) -> None:
    with session_on(target=emulator.comfyui_url) as session:
        result = session.run(workflow)
        assert session.machine is None
        assert session.cost == 0
    assert result.mesh.size > 1000
    assert machines(emulator) == []
    assert requests_to(emulator, "/prod/") == 0


def test_the_emulator_as_a_target(workflow: FluxMeshWorkflow) -> None:
    with RunComfySession("emulator", emulator_options={"startup_s": 0.0}) as session:
        result = session.run(workflow)
    assert result.image.size > 1000


def test_without_a_version_the_workflow_is_looked_up_by_name(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    environment = emulator.environment()
    del environment["RUNCOMFY_WORKFLOW_VERSION_ID"]
    settings = Settings.of_environment(environment)
    with session_on(target="runcomfy", settings=settings) as session:
        assert machines(emulator) == []
        session.run(workflow)
    assert len(machines(emulator)) == 1
    assert_nothing_runs(emulator)


def test_a_workflow_that_the_account_does_not_have(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    with Emulator(workflow_names=("another", "third")) as other:
        environment = other.environment()
        del environment["RUNCOMFY_WORKFLOW_VERSION_ID"]
        session = session_on(target="runcomfy", settings=Settings.of_environment(environment))
        with session, pytest.raises(ConfigError, match="another, third"):
            session.run(workflow)


# --- the machine is given back -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_machine_is_stopped_whatever_happens_in_the_block(
    emulator: Emulator, session_on: Make, kind: type[BaseException]
) -> None:
    with pytest.raises(kind), session_on():
        raise kind
    assert_nothing_runs(emulator)
    assert len(machines(emulator)) == 1


def test_a_run_that_is_under_way_is_cancelled_at_the_end(
    slow: Emulator, long: FluxMeshWorkflow
) -> None:
    with RunComfySession(slow) as session:
        run = session.submit(long)
        next(progress for progress in run.events() if progress.kind == "step")
    assert run.status == "cancelled"
    with pytest.raises(RunCancelled):
        run.wait()
    assert prompts(slow)[0]["status"] == "interrupted"
    assert_nothing_runs(slow)


def test_a_machine_that_ends_while_starting(emulator: Emulator, session_on: Make) -> None:
    emulator.faults.add(MachineFault(action="error"))
    with pytest.raises(MachineStartFailed), session_on():
        pytest.fail("the block was entered")
    assert_nothing_runs(emulator)


def test_a_young_machine_that_is_not_found_yet(emulator: Emulator, session_on: Make) -> None:
    emulator.faults.add(MachineFault(action="not_found", calls=3))
    with session_on():
        pass
    assert len(machines(emulator)) == 1
    assert_nothing_runs(emulator)


def test_a_launch_whose_answer_is_lost(emulator: Emulator, session_on: Make) -> None:
    emulator.faults.add(HttpFault(action="lose_answer", method="POST", path="/servers$"))
    with session_on():
        pass
    assert len(machines(emulator)) == 1
    assert requests_to(emulator, "/servers", "POST") == 1
    assert_nothing_runs(emulator)


def test_a_stop_that_fails_at_first(emulator: Emulator, session_on: Make) -> None:
    with session_on():
        emulator.faults.add(HttpFault(action="drop", method="DELETE", path="/servers/", times=2))
    assert_nothing_runs(emulator)


def test_a_stop_that_fails_for_good_is_loud(emulator: Emulator, session_on: Make) -> None:
    session = session_on()
    with pytest.raises(MachineLeak) as caught, session:
        emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=500, times=10_000))
    assert session.machine is not None
    assert session.machine.server_id in str(caught.value)


def test_a_closed_session_runs_nothing(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    session = session_on()
    with session:
        pass
    session.close()
    with pytest.raises(ComfyloomError, match="closed"):
        session.run(workflow)


def test_a_forgotten_session_warns_and_is_closed(emulator: Emulator, session_on: Make) -> None:
    session = session_on()
    session.start()
    held = [session]
    del session
    assert any("was not closed" in told for told in forget(held))
    assert len(machines(emulator)) == 1
    assert_nothing_runs(emulator)


def test_a_run_keeps_its_session(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    run = session_on().submit(workflow)
    gc.collect()
    assert run.wait().image.size
    held = [run]
    del run
    assert any("was not closed" in told for told in forget(held))


def test_results_are_gone_when_nobody_refers_to_them(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    gc.disable()
    try:
        with session_on() as session:
            result = session.run(workflow)
            folder = result.image.path.parent
            assert folder.is_dir()
            del result
            assert not folder.exists()
    finally:
        gc.enable()


def test_closing_while_another_thread_launches(slow: Emulator) -> None:
    slow.faults.add(HttpFault(action="delay", method="POST", path="/servers$", seconds=1.0))
    session = RunComfySession(slow)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            session.start()
        except ComfyloomError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not requests_to(slow, "/servers", "GET"):
        time.sleep(0.01)
    session.close()
    thread.join(30)
    assert caught
    assert len(machines(slow)) == 1
    assert_nothing_runs(slow)


def test_a_dead_machine_is_told_of_and_the_next_run_launches_another(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    with session_on() as session:
        assert session.machine is not None
        requests.delete(
            f"{emulator.base_url}/prod/api/users/{emulator.user_id}/servers/"
            f"{session.machine.server_id}",
            headers={"Authorization": f"Bearer {emulator.token}"},
            timeout=10,
        )
        with pytest.raises(MachineError, match="ended"):
            session.run(workflow)
        assert session.run(workflow).image.size
    assert len(machines(emulator)) == 2
    assert_nothing_runs(emulator)
    billed = sum(machine["billed_seconds"] for machine in machines(emulator))
    assert session.cost is not None
    # Both machines count; the first until it was found dead, which this clock hurries past.
    assert float(session.cost) >= billed * 0.99 / 3600 - 0.0005


def test_a_lease_is_renewed_without_a_socket(render: Path) -> None:
    """A run of an hour, whose sampler says nothing, outlives a lease of half an hour."""
    from comfyloom._machines import launch

    with Emulator(time="real", startup_s=0.0, run_s=0.0, node_seconds={"XlabsSampler": 9}) as real:
        real.faults.add(SocketFault(action="refuse", times=1000))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "SHORTEST_LEASE_S", 5)
            patch.setattr(launch, "LONGEST_LEASE_S", 5)
            with RunComfySession(real, timeouts=Timeouts(lease_retry_s=0.2)) as session:
                job = FluxMeshWorkflow(input_image=render, prompt="x", width=64, height=64)
                assert session.run(job).image.size
        assert requests_to(real, "update-estimated-duration") >= 2


# --- bad input -----------------------------------------------------------------------------------


def test_bad_values_send_nothing(emulator: Emulator, session_on: Make, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("x")
    with session_on(target=emulator.comfyui_url) as session:
        before = len(emulator.state()["requests"])
        for workflow, kind in (
            (FluxMeshWorkflow(input_image=tmp_path / "no.png", prompt="x"), InputFileError),
            (FluxMeshWorkflow(input_image=tmp_path / "text.png", prompt="x"), InputValueError),
            (FluxMeshWorkflow.with_prompt("x"), InputValueError),
        ):
            with pytest.raises(kind):
                session.run(workflow)
        assert len(emulator.state()["requests"]) == before


def test_a_bad_token(emulator: Emulator, session_on: Make) -> None:
    environment = emulator.environment() | {"RUNCOMFY_API_TOKEN": "wrong-token"}
    settings = Settings.of_environment(environment)
    with pytest.raises(Unauthorized) as caught, session_on(target=None, settings=settings):
        pass
    assert "wrong-token" not in str(caught.value)


def test_a_wrong_base_url(emulator: Emulator, session_on: Make) -> None:
    url = f"{emulator.base_url}/v9"
    settings = Settings.of_environment(emulator.environment() | {"RUNCOMFY_API_BASE_URL": url})
    with (
        pytest.raises(Forbidden, match="wrong base URL or path"),
        session_on(target=None, settings=settings),
    ):
        pass


def test_an_unknown_server_type(emulator: Emulator, session_on: Make) -> None:
    with pytest.raises(ApiError, match="server_type"), session_on(server_type="gigantic"):
        pass
    assert machines(emulator) == []


def test_an_unknown_workflow_version(emulator: Emulator, session_on: Make) -> None:
    environment = emulator.environment() | {"RUNCOMFY_WORKFLOW_VERSION_ID": "nobodys"}
    settings = Settings.of_environment(environment)
    with pytest.raises(NotFound), session_on(target=None, settings=settings):
        pass
    assert machines(emulator) == []


def test_an_unreachable_platform(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    settings = Settings(api_token="token", user_id="u", api_base_url="http://127.0.0.1:1")
    with (
        pytest.raises(TransportError, match="Connection refused"),
        session_on(target=None, settings=settings) as session,
    ):
        session.run(workflow)


@pytest.mark.parametrize("target", ["nowhere", "ftp://x", "http://"])
def test_a_target_that_is_none(target: str) -> None:
    with pytest.raises(ConfigError, match="target"):
        RunComfySession(target)


# --- runs that give no result --------------------------------------------------------------------


def test_a_rejected_prompt(
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
    # As where the schemas that the class was made with are not those of the server.
    monkeypatch.setattr("comfyloom._session.session.validate", lambda _: None)
    with session_on() as session, pytest.raises(PromptRejected) as caught:
        session.run(workflow)
    assert "node 3 (XlabsSampler)" in str(caught.value)
    assert_nothing_runs(emulator)


def test_what_no_server_can_run_is_refused_before_anything_is_launched(
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


def test_a_prompt_that_is_accepted_in_part_is_rejected_and_withdrawn(
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
    monkeypatch.setattr("comfyloom._session.session.validate", lambda _: None)
    with session_on() as session:
        with pytest.raises(PromptRejected, match="target_num_faces") as caught:
            session.run(workflow)
        assert caught.value.status == 200
    assert_nothing_runs(emulator)


def test_a_node_that_raises(
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
def test_a_result_that_is_missing_or_not_whole(
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


def test_an_out_dir_that_cannot_be_written(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with session_on() as session, pytest.raises(OutputNotWritable):
        session.run(workflow, out_dir=tmp_path / "file")
    assert prompts(emulator) == []


def test_a_run_that_takes_too_long(slow: Emulator, long: FluxMeshWorkflow) -> None:
    with RunComfySession(slow.comfyui_url) as session:
        with pytest.raises(RunTimeout):
            session.run(long, timeout=0.4)
        assert prompts(slow)[0]["status"] == "interrupted"
        run = session.submit(long)
        with pytest.raises(RunTimeout):
            run.wait(timeout=0.2)
        assert prompts(slow)[1]["status"] == "interrupted"


@pytest.mark.parametrize("path", ["/upload/image", "/view"])
def test_the_time_of_a_run_counts_for_all_of_it(
    emulator: Emulator, workflow: FluxMeshWorkflow, path: str
) -> None:
    with Emulator(time="real", startup_s=0.0, run_s=0.0) as real:
        real.faults.add(HttpFault(action="hang", path=path, times=100))
        with RunComfySession(real.comfyui_url) as session:
            begun = time.monotonic()
            with pytest.raises(RunTimeout):
                session.run(workflow, timeout=1.0)
            assert time.monotonic() - begun < 10.0


def test_a_trickling_download_does_not_outlive_its_time() -> None:
    """The server sends a byte now and then, so that no read ever times out."""
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


def test_cancelling_a_run_that_waits_and_one_that_runs(
    slow: Emulator, long: FluxMeshWorkflow
) -> None:
    with RunComfySession(slow.comfyui_url) as session:
        first, second = session.submit(long), session.submit(long.with_seed(1))
        # In a sampler: the server looks for interrupts at each of its steps.
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


def test_a_server_that_forgets_the_run(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    emulator.faults.add(RunFault(action="restart", node="3", step=5))
    with session_on() as session, pytest.raises(RunLost):
        session.run(workflow)


def test_a_machine_that_dies_during_a_run(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    emulator.faults.add(RunFault(action="die", node="3", step=5))
    with session_on() as session, pytest.raises(MachineError, match="ended during the run"):
        session.run(workflow)
    assert_nothing_runs(emulator)


# --- a network that misbehaves -------------------------------------------------------------------


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


def test_a_prompt_that_was_sent_and_never_arrived_is_lost_not_repeated(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    emulator.faults.add(HttpFault(path="/prompt$", method="POST", action="drop"))
    with session_on() as session, pytest.raises(RunLost, match="not sent again"):
        session.run(workflow)
    assert requests_to(emulator, "/prompt", "POST") <= 1
    assert prompts(emulator) == []


# --- what is told --------------------------------------------------------------------------------


def test_no_secret_is_told(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    loggers = [logging.getLogger(name) for name in ("comfyloom", "urllib3", "websocket")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    emulator.faults.add(RunFault(action="die", node="3", step=5))
    texts: list[str] = []
    try:
        with session_on() as session:
            texts += [repr(session), repr(session.machine), repr(session._backend)]
            with pytest.raises(MachineError) as caught:
                session.run(workflow)
            texts += [str(caught.value), repr(vars(caught.value))]
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
    told = stream.getvalue() + "".join(texts)
    assert session.machine is not None
    assert len(stream.getvalue()) > 500
    assert emulator.token not in told
    assert f"/comfyui/{session.machine.server_id}" not in told


def test_a_callback_that_fails_does_the_run_no_harm(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("in a callback")

    with session_on() as session:
        assert session.run(workflow, on_progress=fail).image.size


def test_what_a_session_cost_is_told_once_in_the_end(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    seen: list[Progress] = []
    with session_on(on_progress=seen.append) as session:
        session.run(workflow)
    session.close()
    (told,) = [progress.message for progress in seen if progress.kind == "cost"]
    assert seen[-1].kind == "cost"
    (machine,) = machines(emulator)
    assert told == session.summary[0]
    for word in (machine["server_id"], "medium", "USD", "stopped"):
        assert word in told


def test_progress_is_told_in_the_callers_thread(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    threads: set[int] = set()
    with session_on(on_progress=lambda _: threads.add(threading.get_ident())) as session:
        session.run(workflow)
    assert threads == {threading.get_ident()}
