"""One run under one scripted fault, and its outcome."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import attrs

from comfyloom import Run, RunComfySession
from comfyloom._core.timeouts import Timeouts
from comfyloom.emulator import SCENARIOS, Emulator, HttpFault, RunFault
from comfyloom.errors import ComfyloomError, RunTimeout
from comfyloom_workflows import FluxMeshResult, FluxMeshWorkflow
from support import RENDER, HastyClock

QUICK = Timeouts(poll_s=0.5, submit_s=0.7, upload_s=0.7, download_s=0.7, cancel_s=0.5, ping_s=0.2)
"""Short timeouts, so that a trial ends soon whose server does not answer."""
PATIENT = attrs.evolve(QUICK, poll_s=5.0, submit_s=5.0, upload_s=5.0, download_s=5.0)
"""For all other trials: a computer that is busy answers late."""
TIMEOUT_S = 20.0
DEAD_S = 3.0
GRACE_S = 1.0
MOST_DEAF = 3

# Scenarios without a result, and the error that is raised; the others give the right result.
ERRORS: dict[str, str] = {
    "connect-shortened": "ApiError",
    "connect-page": "ApiError",
    "upload-timeout": "TransportError",
    "upload-shortened": "ApiError",
    "upload-page": "ApiError",
    "submit-502": "ApiError",
    "submit-timeout": "RunLost",
    "submit-reset": "RunLost",
    "submit-page": "ApiError",
    "download-shortened": "OutputMissing",
    "run-node-error": "RunFailed",
    "run-out-of-memory": "RunFailed",
    "run-interrupted": "RunCancelled",
    "run-deleted": "RunLost",
    "run-restarted": "RunLost",
    "run-worker-dead": "RunTimeout",
    "run-file-gone": "OutputGone",
    "run-no-output": "OutputMissing",
    "run-output-empty": "OutputMissing",
    "run-output-truncated": "OutputMissing",
}


@attrs.frozen(kw_only=True)
class Trial:
    """The outcome of a run.

    Attributes:
        outcome: `result`, or the name of the error.
        message: Its text.
        seconds: How long it took; waits between attempts are skipped.
        accepted: How often the server accepted the graph.
        left: Files that a failed run left in its folder.
        wrong: What is wrong with the result.
        threads: Threads that outlived the session.
        unstruck: Faults that never struck: the trial proves nothing.
    """

    outcome: str
    message: str
    seconds: float
    accepted: int
    left: tuple[str, ...]
    wrong: str
    threads: tuple[str, ...]
    unstruck: tuple[str, ...]


def expected(name: str) -> str:
    """Return the outcome that a scenario must have."""
    return ERRORS.get(name, "RunCancelled" if SCENARIOS[name].cancels else "result")


def try_out(name: str, folder: Path) -> Trial:
    """Run the flux-mesh workflow once on a server with this fault."""
    scenario = SCENARIOS[name]
    work = FluxMeshWorkflow(
        input_image=RENDER, prompt="a brass automaton", width=64, height=64, steps=4, seed=7
    )
    before = set(threading.enumerate())
    hangs = any(isinstance(each, HttpFault) and each.action == "hang" for each in scenario.faults)
    # A socket that is lost repeatedly needs a run that lasts.
    slow = {"time": "real", "run_s": 1.0} if scenario.group == "socket" else {}
    with Emulator(**slow) as emulator:
        good = _good(emulator, work) if scenario.reruns else None
        emulator.faults.add(*scenario.faults)
        began, outcome, message, wrong, again = time.perf_counter(), "result", "", "", 0
        timeout = DEAD_S if expected(name) == RunTimeout.__name__ else TIMEOUT_S
        try:
            with RunComfySession(
                emulator.comfyui_url,
                timeouts=QUICK if hangs else PATIENT,
                clock=HastyClock(),
            ) as session:
                run = session.submit(work, out_dir=folder, timeout=timeout)
                if scenario.cancels:
                    _cancel(run, emulator)
                wrong = _wrong(run.wait(), work, good)
                if scenario.group == "socket" and name != "socket-refused":
                    again += _deafness(session, work)
        except ComfyloomError as error:
            outcome, message = type(error).__name__, str(error)
        seconds = time.perf_counter() - began
        prompts = emulator.state()["prompts"]
        unstruck = emulator.faults.unstruck()
        if scenario.cancels and prompts[-1]["status"] != "interrupted":
            wrong = f"the run was left {prompts[-1]['status']}"
    late = [thread for thread in threading.enumerate() if thread not in before]
    for thread in late:
        thread.join(GRACE_S)
    return Trial(
        outcome=outcome,
        message=message,
        seconds=seconds,
        # Of a run that is cached, only the files are saved again.
        accepted=len(prompts) - 2 * scenario.reruns - again,
        left=() if outcome == "result" else tuple(sorted(_names(folder))),
        wrong=wrong,
        threads=tuple(thread.name for thread in late if thread.is_alive()),
        unstruck=tuple(map(str, unstruck)),
    )


def _cancel(run: Run[FluxMeshResult], emulator: Emulator) -> None:
    """Cancel a run once it hangs."""
    # Not by its events: on a busy computer, the run may begin before their socket is open.
    while any(isinstance(each, RunFault) for each in emulator.faults.unstruck()):
        time.sleep(0.02)
    run.cancel()


def _deafness(session: RunComfySession, work: FluxMeshWorkflow) -> int:
    """Run again until a run gets events once more; return how many runs it took."""
    for number in range(1, MOST_DEAF + 1):
        run = session.submit(work.with_seed(number))
        run.wait()
        if any(each.kind == "step" for each in run.events()):
            return number
    raise AssertionError("the session stays deaf")


def _good(emulator: Emulator, work: FluxMeshWorkflow) -> FluxMeshResult:
    with RunComfySession(emulator.comfyui_url) as session:
        return session.run(work)


def _wrong(found: FluxMeshResult, work: FluxMeshWorkflow, good: FluxMeshResult | None) -> str:
    """Return what is wrong with a result: the graph in it must be the one that was run."""
    graph = found.image.embedded_graph()
    if graph is None or graph["34"]["inputs"]["clip_l"] != work.prompt:
        return "the picture is of another run"
    if good is not None and (found.image.numpy() != good.image.numpy()).any():
        return "the picture is another one"
    if found.image.numpy().shape[:2] != (64, 64):
        return "the picture has another size"
    return "" if len(found.mesh.trimesh().geometry) else "the mesh is empty"


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")] if folder.exists() else []
