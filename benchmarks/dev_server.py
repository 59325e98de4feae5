"""How soon a run starts: on a newly launched machine, and on a running dev server.

    python benchmarks/dev_server.py [TIMES]

Measured on an emulator in real time: from the platform's Ready, or from the start of the client's
process, to the first accepted prompt.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from report import print_report

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator
from comfyloom_workflows import FluxMeshWorkflow

RENDER = Path(__file__).parents[1] / "examples" / "render.png"
COMMAND = [sys.executable, "-c", "from comfyloom.cli import main; main()"]
STARTUP_S = 5.3  # not a multiple of any poll interval


def main(times: int) -> None:
    measured: dict[str, list[float]] = {
        "Ready → first accepted prompt, launched by the session": [],
        "process start → first accepted prompt, on the dev server": [],
        "process start → exit, `comfyloom run` on the dev server": [],
    }
    fresh, first, whole = measured.values()
    for _ in range(times):
        with Emulator(time="real", startup_s=STARTUP_S, run_s=0.0) as emulator:
            fresh.append(after_ready(emulator))
    with Emulator(time="real", startup_s=0.0, run_s=0.0, rate_limit=None) as emulator:
        on_the_dev_server(emulator, times, first, whole)
    print_report("Start of a run", measured)


def after_ready(emulator: Emulator) -> float:
    job = FluxMeshWorkflow(input_image=RENDER, prompt="x", width=64, height=64)
    with RunComfySession(emulator) as session:
        session.run(job)
    (machine,) = emulator.state()["machines"]
    return accepted_at(emulator)[0] - iso(machine["ready_at"])


def on_the_dev_server(
    emulator: Emulator, times: int, first: list[float], whole: list[float]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shell(emulator, folder, "dev", "up")
        options = ("--prompt", "x", "--width", "64", "--height", "64", "--out", folder)
        for _ in range(times):
            before = len(accepted_at(emulator))
            begun, monotonic = time.time(), time.monotonic()
            shell(emulator, folder, "run", "flux-mesh", "--input-image", str(RENDER), *options)
            whole.append(time.monotonic() - monotonic)
            first.append(accepted_at(emulator)[before] - begun)
        shell(emulator, folder, "dev", "down")


def shell(emulator: Emulator, folder: str, *arguments: str) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": folder} | emulator.environment()
    subprocess.run(
        [*COMMAND, *arguments],
        env=environ,
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=120,
    )


def accepted_at(emulator: Emulator) -> list[float]:
    """Return when each prompt was accepted, seconds since the epoch."""
    requests: list[dict[str, Any]] = emulator.state()["requests"]
    return [
        iso(each["at"])
        for each in requests
        if each["path"].endswith("/prompt") and each["status"] == 200
    ]


def iso(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
