"""The main job over real sockets: a render and a prompt become a picture and a mesh."""

from __future__ import annotations

import io
import json
import logging
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyloom import ImageOutput, MeshOutput, Progress, RunComfySession
from comfyloom.emulator import Emulator, RunFault
from comfyloom.errors import (
    ApiError,
    ConfigError,
    Forbidden,
    InputFileError,
    InputValueError,
    MachineError,
    NotFound,
    TransportError,
    Unauthorized,
)
from comfyloom.settings import Settings
from comfyloom_workflows import FluxImageWorkflow, FluxMeshWorkflow, PartPackerWorkflow
from support import assert_nothing_runs, machines, prompts, request_count

Make = Callable[..., RunComfySession]


def test_a_render_and_a_prompt_become_a_picture_and_a_mesh(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    with session_on() as session:
        assert machines(emulator) == []  # it is launched by the first run
        result = session.run(workflow, on_progress=seen.append)
    assert isinstance(result.image, ImageOutput)
    assert isinstance(result.mesh, MeshOutput)
    assert result.image.save(tmp_path / "flux.png").read_bytes().startswith(b"\x89PNG")
    mesh = result.mesh.save(tmp_path).read_bytes()
    assert mesh[:4] == b"glTF"
    assert struct.unpack_from("<I", mesh, 8)[0] == len(mesh)
    assert (tmp_path / "partpacker_result_0.glb").is_file()
    assert result.seed is not None
    assert 0 <= result.seed < 2**31

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


def test_the_server_ran_the_given_values(
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
    with session_on(start=True) as session:
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


def test_many_runs_have_a_folder_each_and_their_progress(
    session_on: Make, workflow: FluxMeshWorkflow, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    jobs = [workflow.with_seed(seed) for seed in range(3)]
    with session_on() as session:
        results = session.map(jobs, out_dir=tmp_path / "out", on_progress=seen.append)
        folders = [result.image.path.parent for result in results]
    assert folders == [tmp_path / "out" / name for name in ("000", "001", "002")]
    assert all((folder / "flux.png").is_file() for folder in folders)
    kinds = [progress.kind for progress in seen]
    assert kinds[0] == "machine"
    assert kinds.count("finished") == 3
    assert "step" in kinds


def test_a_drawn_seed_fits_every_workflow(session_on: Make, workflow: FluxMeshWorkflow) -> None:
    specs = (FluxMeshWorkflow, FluxImageWorkflow, PartPackerWorkflow)
    limits = [each.__workflow__.inputs for each in specs]
    least = min(int(spec.le or 0) for specs in limits for spec in specs if spec.kind == "seed")
    with session_on() as session:
        seeds = [session.run(workflow.with_steps(1)).seed for _ in range(4)]
    assert all(seed is not None and seed <= least for seed in seeds)


def test_a_seed_of_minus_one_is_named_for_what_it_is(workflow: FluxMeshWorkflow) -> None:
    with pytest.raises(InputValueError, match="-1 means a random seed: here, leave it out"):
        workflow.with_seed(-1)
    with pytest.raises(InputValueError, match=r"-2 is out of range \(0 to \d+\)$"):
        workflow.with_seed(-2)


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


# --- targets --------------------------------------------------------------------------------------


def test_a_plain_comfyui_needs_no_machine(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    with session_on(target=emulator.comfyui_url) as session:
        result = session.run(workflow)
        assert session.machine is None
        assert session.cost == 0
    assert result.mesh.size > 1000
    assert machines(emulator) == []
    assert request_count(emulator, "/prod/") == 0


def test_the_emulator_is_a_target(workflow: FluxMeshWorkflow) -> None:
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


def test_a_workflow_that_the_account_lacks_is_a_config_error(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    with Emulator(workflow_names=("another", "third")) as other:
        environment = other.environment()
        del environment["RUNCOMFY_WORKFLOW_VERSION_ID"]
        session = session_on(target="runcomfy", settings=Settings.of_environment(environment))
        with session, pytest.raises(ConfigError, match="another, third"):
            session.run(workflow)


@pytest.mark.parametrize("target", ["nowhere", "ftp://x", "http://"])
def test_an_unknown_target_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="target"):
        RunComfySession(target)


# --- invalid input and settings -------------------------------------------------------------------


def test_invalid_values_send_nothing(emulator: Emulator, session_on: Make, tmp_path: Path) -> None:
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


def test_a_wrong_token_is_refused(emulator: Emulator, session_on: Make) -> None:
    environment = emulator.environment() | {"RUNCOMFY_API_TOKEN": "wrong-token"}
    settings = Settings.of_environment(environment)
    with (
        pytest.raises(Unauthorized) as caught,
        session_on(target=None, settings=settings, start=True),
    ):
        pass
    assert "wrong-token" not in str(caught.value)


def test_a_wrong_base_url_is_refused(emulator: Emulator, session_on: Make) -> None:
    url = f"{emulator.base_url}/v9"
    settings = Settings.of_environment(emulator.environment() | {"RUNCOMFY_API_BASE_URL": url})
    with (
        pytest.raises(Forbidden, match="wrong base URL or path"),
        session_on(target=None, settings=settings, start=True),
    ):
        pass


def test_an_unknown_server_type_launches_nothing(emulator: Emulator, session_on: Make) -> None:
    with (
        pytest.raises(ApiError, match="server_type"),
        session_on(server_type="gigantic", start=True),
    ):
        pass
    assert machines(emulator) == []


def test_an_unknown_workflow_version_launches_nothing(emulator: Emulator, session_on: Make) -> None:
    environment = emulator.environment() | {"RUNCOMFY_WORKFLOW_VERSION_ID": "unknown"}
    settings = Settings.of_environment(environment)
    with pytest.raises(NotFound), session_on(target=None, settings=settings, start=True):
        pass
    assert machines(emulator) == []


def test_an_unreachable_platform_is_a_transport_error(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    settings = Settings(api_token="token", user_id="u", api_base_url="http://127.0.0.1:1")
    with (
        pytest.raises(TransportError, match="Connection refused"),
        session_on(target=None, settings=settings) as session,
    ):
        session.run(workflow)


# --- what is reported -----------------------------------------------------------------------------


def test_no_secret_is_logged_or_printed(
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
    written = stream.getvalue() + "".join(texts)
    assert session.machine is not None
    assert len(stream.getvalue()) > 500
    assert emulator.token not in written
    assert f"/comfyui/{session.machine.server_id}" not in written


def test_a_failing_callback_does_not_harm_the_run(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("in a callback")

    with session_on() as session:
        assert session.run(workflow, on_progress=fail).image.size


def test_the_cost_of_a_session_is_reported_once_at_its_end(
    emulator: Emulator, session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    seen: list[Progress] = []
    with session_on(on_progress=seen.append) as session:
        session.run(workflow)
    session.close()
    (message,) = [progress.message for progress in seen if progress.kind == "cost"]
    assert seen[-1].kind == "cost"
    (machine,) = machines(emulator)
    assert message == session.summary[0]
    for word in (machine["server_id"], "medium", "USD", "stopped"):
        assert word in message


def test_progress_is_reported_in_the_callers_thread(
    session_on: Make, workflow: FluxMeshWorkflow
) -> None:
    threads: set[int] = set()
    with session_on(on_progress=lambda _: threads.add(threading.get_ident())) as session:
        session.run(workflow)
    assert threads == {threading.get_ident()}
