"""The command line from a shell: output files, one-line errors, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom.emulator import Emulator, HttpFault, MachineFault, RunFault
from shells import COMMAND, Shell, bare_environment, failed, shell_at
from support import RENDER, free_port


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator in real time, because the command under test really waits; it is fast."""
    with Emulator(time="real", startup_s=0.0, run_s=0.2) as running:
        yield running


@pytest.fixture
def shell(emulator: Emulator, tmp_path: Path) -> Shell:
    """Run `comfyloom` with the emulator's environment, isolated from any real account."""
    return shell_at(tmp_path, emulator.environment())


def job(*more: str, image: Path = RENDER, prompt: str = "a jade claw") -> list[str]:
    size = ["--width", "64", "--height", "64"]
    return ["run", "flux-mesh", "--input-image", str(image), "--prompt", prompt, *size, *more]


def machines(emulator: Emulator) -> list[dict[str, Any]]:
    return emulator.state()["machines"]


def test_run_writes_both_files_and_reports_as_json(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    done = shell(*job("--out", "out", "--seed", "7", "--json"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["seed"] == 7
    assert report["files"] == {
        "image": str(tmp_path / "out/flux.png"),
        "mesh": str(tmp_path / "out/partpacker_result_0.glb"),
    }
    assert (tmp_path / "out/flux.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/partpacker_result_0.glb").read_bytes().startswith(b"glTF")
    (machine,) = machines(emulator)
    assert machine["status"] == "Stopped"
    assert machine["billed_seconds"] > 0
    assert report["machine"]["server_id"] == machine["server_id"]
    assert abs(report["machine"]["billed_s"] - machine["billed_seconds"]) <= 1.0
    assert float(report["cost_usd"]) >= 0


def test_run_prints_files_and_cost_for_humans(shell: Shell) -> None:
    done = shell(*job())
    assert done.stdout.splitlines() == ["flux.png", "partpacker_result_0.glb"]
    assert "USD; stopped" in done.stderr
    assert "FLUX sampling" in done.stderr


def test_run_on_a_plain_comfyui_needs_no_account(emulator: Emulator, shell: Shell) -> None:
    done = shell(*job("--target", emulator.comfyui_url, "--json"), environ={})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["machine"] is None
    assert machines(emulator) == []


def test_the_demo_needs_no_account(shell: Shell, tmp_path: Path) -> None:
    done = shell("demo", environ={})
    assert done.returncode == 0, done.stderr
    assert "no GPU was used, nothing was billed" in done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["flux.png", "partpacker_result_0.glb"]


def test_the_packaged_render_is_the_one_in_the_examples() -> None:
    packaged = Path(sys.modules["comfyloom"].__path__[0], "cli", "render.png")
    assert packaged.read_bytes() == RENDER.read_bytes()


@pytest.mark.parametrize(
    "command", [(), ("run",), ("run", "flux-mesh"), ("demo",), ("codegen",), ("emulate",)]
)
@pytest.mark.parametrize("switch", ["-h", "--help"])
def test_every_command_has_help(shell: Shell, command: tuple[str, ...], switch: str) -> None:
    done = shell(*command, switch)
    assert done.returncode == 0
    assert "Usage: comfyloom" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["demo"], "starlette"),
        (["emulate"], "starlette"),
        (job("--target", "emulator"), "starlette"),
        (["codegen", "--force"], "jinja2"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_extra_is_named(tmp_path: Path, arguments: list[str], missing: str) -> None:
    (tmp_path / "workflows").mkdir()
    graph = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}
    (tmp_path / "workflows" / "a.json").write_text(json.dumps(graph))
    hidden = f"import sys; sys.modules[{missing!r}] = None; from comfyloom.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, *arguments],
        env=bare_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78, done.stderr
    assert missing in done.stderr.splitlines()[-1]
    assert "pip install 'comfyloom[" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_help_lists_every_command_and_every_public_input(shell: Shell) -> None:
    listed = shell("-h").stdout
    for name in ("codegen", "demo", "emulate", "run"):
        assert f"\n  {name} " in listed
    options = shell("run", "flux-mesh", "-h").stdout
    for name in (
        "input-image", "prompt", "negative-prompt", "seed", "guidance", "control-strength", "steps",
        "width", "height", "mesh-steps", "mesh-cfg-scale", "mesh-grid-resolution",
        "mesh-target-faces", "mesh-simplify", "out", "target", "json",
    ):  # fmt: skip
        assert f"--{name} " in options


# --- errors --------------------------------------------------------------------------------------


def test_the_cost_is_reported_however_a_run_ends(emulator: Emulator, shell: Shell) -> None:
    emulator.faults.add(RunFault(action="raise", node="7"))
    assert "USD; stopped" in shell(*job()).stderr
    emulator.faults.add(RunFault(action="raise", node="7"))
    done = shell(*job("--json"))
    report = json.loads(done.stdout)
    assert report["error"]["code"] == "RunFailed"
    assert report["error"]["details"]["exit_code"] == done.returncode == 69
    assert report["machine"]["server_id"] == machines(emulator)[1]["server_id"]
    assert report["emulated"] is True


def test_output_of_the_emulator_is_marked_as_such(shell: Shell) -> None:
    done = shell(*job("--target", "emulator", "--json"), environ={})
    assert json.loads(done.stdout)["emulated"] is True
    assert "nothing was billed" in done.stderr


def test_a_closed_output_pipe_is_not_a_traceback(shell: Shell, tmp_path: Path) -> None:
    command = f"{sys.executable} -m comfyloom run -h | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=bare_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr


def test_usage_errors_have_exit_code_64(shell: Shell) -> None:
    for arguments in (
        ["nothing"],
        ["run", "nothing"],
        ["run", "flux-mesh"],
        job("--steps", "many"),
    ):
        done = shell(*arguments)
        assert done.returncode == 64
        assert "Error: " in done.stderr


def test_bad_values_never_launch_a_machine(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "file").touch()
    failed(shell(*job(image=tmp_path / "no.png")), 66, "input_image", "no.png", "No such file")
    failed(shell(*job(image=tmp_path)), 66, "input_image", "directory")
    failed(shell(*job(image=tmp_path / "text.png")), 65, "text.png", "not an image")
    failed(shell(*job(prompt="")), 65, "prompt", "node 34")
    failed(shell(*job("--steps", "0")), 65, "steps", "1 to 100")
    failed(shell(*job("--out", str(tmp_path / "file" / "x"))), 73, "cannot write")
    failed(shell(*job("--out", str(tmp_path / "file"))), 73, "cannot write")
    (tmp_path / "taken" / "flux.png").mkdir(parents=True)
    failed(shell(*job("--out", str(tmp_path / "taken"))), 73, "flux.png", "is a folder")
    failed(shell(*job("--target", "nowhere")), 78, "target", "emulator")
    failed(shell(*job(), environ={}), 78, "RUNCOMFY_API_TOKEN", "RUNCOMFY_USER_ID", "emulator")
    assert machines(emulator) == []
    assert emulator.state()["requests"] == []


def test_a_refusal_of_the_platform_is_one_line(emulator: Emulator, shell: Shell) -> None:
    known = emulator.environment()
    wrong = {"RUNCOMFY_API_TOKEN": "not-the-token"}
    failed(shell(*job(), environ=known | wrong), 77, "token", "RUNCOMFY_API_TOKEN")
    wrong = {"RUNCOMFY_API_BASE_URL": f"{emulator.base_url}/v9"}
    failed(shell(*job(), environ=known | wrong), 77, "wrong base URL or path")
    failed(shell(*job("--server-type", "gigantic")), 69, "server_type", "medium")
    wrong = {"RUNCOMFY_WORKFLOW_VERSION_ID": "unknown"}
    failed(shell(*job(), environ=known | wrong), 69, "version")
    assert machines(emulator) == []


def test_a_failure_on_the_machine_is_one_line_and_stops_the_machine(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    for fault, code, words in (
        (MachineFault(action="error", times=2), 69, ("ended while it started",)),
        (RunFault(action="raise", node="7", message="no memory"), 69, ("node 7", "no memory")),
        (RunFault(action="no_output", node="33"), 69, ("mesh", "node 33")),
        (RunFault(action="truncate", node="24", size=500), 69, ("image", "truncated")),
        (
            HttpFault(
                path="/prompt$",
                method="POST",
                status=400,
                body=json.dumps({"error": {"message": "Prompt has no outputs"}}),
            ),
            65,
            ("rejected", "no outputs"),
        ),
    ):
        emulator.faults.add(fault)
        failed(shell(*job("--out", "out")), code, *words)
        assert not (tmp_path / "out").exists()
        assert all(machine["stopped_at"] for machine in machines(emulator))


def test_a_plain_comfyui_that_cannot_be_reached_is_one_line(shell: Shell) -> None:
    target = f"http://127.0.0.1:{free_port()}"
    failed(shell(*job("--target", target, "--timeout", "5"), environ={}), 69, "Connection refused")


def test_debug_shows_a_traceback_but_no_secret(emulator: Emulator, shell: Shell) -> None:
    emulator.faults.add(RunFault(action="raise", node="7"))
    done = shell("--debug", *job())
    assert "Traceback" in done.stderr
    assert done.returncode == 69
    (machine,) = machines(emulator)
    for secret in (emulator.token, f"/comfyui/{machine['server_id']}"):
        assert secret not in done.stdout + done.stderr


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["starting", "running"])
def test_a_signal_stops_the_machine(
    tmp_path: Path, number: signal.Signals, code: int, moment: str
) -> None:
    startup_s = 60.0 if moment == "starting" else 0.0
    times = {"XlabsSampler": 30.0}
    with Emulator(time="real", startup_s=startup_s, run_s=0.0, node_seconds=times) as emulator:
        process = subprocess.Popen(
            [*COMMAND, *job("--out", "out")],
            env=bare_environment(tmp_path) | emulator.environment(),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(emulator, moment)
        begun = time.monotonic()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
        assert time.monotonic() - begun < 5.0
        assert process.returncode == code, stderr
        (machine,) = machines(emulator)
        assert machine["status"] == "Stopped"
        assert [row["status"] for row in emulator.state()["prompts"]] in ([], ["interrupted"])
        assert "; stopped" in stderr
        assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()


def wait_for(emulator: Emulator, moment: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = emulator.state()
        running = any(row["status"] == "running" for row in state["prompts"])
        polled = any("/servers/" in row["path"] for row in state["requests"])
        if running or (moment == "starting" and polled):
            return
        time.sleep(0.02)
    pytest.fail(f"the command did not reach: {moment}")


def test_the_emulator_command_serves_other_shells(shell: Shell, tmp_path: Path) -> None:
    """One shell runs the emulator, another runs a workflow with environment variables only."""
    ready = tmp_path / "ready.json"
    emulate = ["emulate", "--startup-s", "0", "--run-s", "0.2", "--ready-file", str(ready)]
    process = subprocess.Popen(
        [*COMMAND, *emulate], env=bare_environment(tmp_path), stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        facts = json.loads(ready.read_text("utf-8"))
        environ = {
            "RUNCOMFY_API_TOKEN": facts["token"],
            "RUNCOMFY_USER_ID": facts["user_id"],
            "RUNCOMFY_API_BASE_URL": facts["base_url"],
            "RUNCOMFY_WORKFLOW_VERSION_ID": facts["workflow_version_id"],
        }
        assert shell(*job("--out", "out"), environ=environ).returncode == 0
        with urllib.request.urlopen(f"{facts['base_url']}/_emulator/state") as answer:
            (machine,) = json.load(answer)["machines"]
        assert machine["status"] == "Stopped"
        assert machine["billed_seconds"] > 0
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(
    "ending", ["pass", "del session", "raise ValueError('forgotten')", "sys.exit(3)"]
)
def test_a_session_that_is_never_closed_is_closed_at_the_exit(
    emulator: Emulator, tmp_path: Path, ending: str
) -> None:
    code = (
        "import sys; from comfyloom import RunComfySession\n"
        f"session = RunComfySession(); session.start()\n{ending}\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env=bare_environment(tmp_path) | emulator.environment(),
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    (machine,) = machines(emulator)
    assert machine["status"] == "Stopped"
