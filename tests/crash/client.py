"""A client that dies by SIGKILL at a chosen point: `client.py SCENARIO POINT`.

Points are the boundaries of every HTTP request (before it is sent, after that and before the
answer, after the answer), of every write of the ledger, of the dev server's file, and of every
message to the guard. Each is appended to the file `CRASH_LOG` before it is passed; at the one
whose number is POINT the process kills itself, or does what `CRASH_DEED` says instead.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs


@attrs.define
class Points:
    """Counts the points that are passed, and dies at one of them."""

    deadly: int
    log: Path
    is_armed: bool = False
    passed: int = 0
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def reach(self, name: str) -> None:
        if not self.is_armed:
            return
        with self.lock:
            self.passed += 1
            with contextlib.suppress(OSError), self.log.open("a") as file:
                file.write(f"{name}\n")
            if self.passed == self.deadly:
                DEEDS[os.environ.get("CRASH_DEED", "kill")]()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_group() -> None:
    os.killpg(0, signal.SIGKILL)


def fill_disk() -> None:
    """Let no file grow, as on a full disk; Python ignores the signal for it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def pause() -> None:
    """Wait until the lab has acted."""
    Path(os.environ["CRASH_PAUSED"]).touch()
    while not Path(os.environ["CRASH_GO"]).exists():
        time.sleep(0.02)


DEEDS: dict[str, Callable[[], None]] = {
    "kill": kill,
    "kill-group": kill_group,
    "fill-disk": fill_disk,
    "pause": pause,
}


def around(owner: Any, name: str, points: Points, before: str, after: str) -> None:
    """Reach a point before and one after each call of a method; an empty name gives no point."""
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        detail = f" {arguments[0]} {_plain(arguments[1])}" if name == "request" else ""
        if before:
            points.reach(before + detail)
        value = original(self, *arguments, **options)
        if after:
            points.reach(after + detail)
        return value

    setattr(owner, name, wrapped)


def _plain(path: str) -> str:
    """Return a path without the parts that differ between runs."""
    return "/".join("…" if len(part) > 24 else part for part in path.split("?")[0].split("/"))


def install(points: Points) -> None:
    """Put the points into the client."""
    from sqlalchemy import Engine, event
    from urllib3.connection import HTTPConnection

    from comfyloom._guard import guard
    from comfyloom._records.dev_state_file import StateFile

    around(HTTPConnection, "request", points, "http: before", "http: sent")
    around(HTTPConnection, "getresponse", points, "", "http: answered")
    around(StateFile, "write", points, "file: before a write", "file: written")
    around(guard.Guard, "_write", points, "guard: before a message", "guard: message sent")
    # Between the fork of a guard process and the moment at which its owner believes in it.
    around(subprocess.Popen, "__init__", points, "guard: before its fork", "guard: forked")
    around(subprocess.Popen, "wait", points, "", "guard: ready")

    def reach(when: str) -> Callable[..., None]:
        def at(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(("INSERT", "UPDATE")):
                points.reach(f"ledger: {when} {statement.split('WHERE')[0][:60].strip()}")

        return at

    event.listen(Engine, "before_cursor_execute", reach("before"))
    event.listen(Engine, "after_cursor_execute", reach("after"))
    if os.environ.get("CRASH_NO_GUARD"):
        guard.guard_of_process()._failed = True


def session(points: Points) -> None:
    from comfyloom import RunComfySession
    from comfyloom_workflows import FluxMeshWorkflow

    render = Path(__file__).parents[2] / "examples" / "render.png"
    workflow = FluxMeshWorkflow(input_image=render, prompt="x", width=64, height=64, steps=1)
    points.is_armed = True
    with RunComfySession() as running:
        running.run(workflow)


def silent(points: Points) -> None:
    """Run on a machine whose ComfyUI falls silent, and on the one that replaces it."""
    import requests

    from comfyloom import RunComfySession, Timeouts
    from comfyloom_workflows import FluxMeshWorkflow

    render = Path(__file__).parents[2] / "examples" / "render.png"
    workflow = FluxMeshWorkflow(input_image=render, prompt="x", width=64, height=64, steps=1)
    quick = Timeouts(fresh_s=0.0, silent_machine_s=0.2, ask_every_s=0.05, probe_s=0.2)
    with RunComfySession(timeouts=quick) as running:
        running.run(workflow)
        path = f"/comfyui/{running.machine.server_id}/"  # type: ignore[union-attr]
        fault = {"kind": "http", "path": path, "status": 502, "times": 1000}
        url = f"{os.environ['RUNCOMFY_API_BASE_URL']}/_emulator/faults"
        requests.post(url, json=fault, timeout=10).raise_for_status()
        points.is_armed = True
        running.run(workflow)


def dev_up(points: Points) -> None:
    from comfyloom import DevServer

    points.is_armed = True
    DevServer().up("generate_flux_mesh")


def dev_down(points: Points) -> None:
    from comfyloom import DevServer

    points.is_armed = True
    DevServer().down(force=True)


def idle(points: Points) -> None:
    """Hold a machine, and never use it."""
    from comfyloom import RunComfySession

    points.is_armed = True
    with RunComfySession(start=True):
        Path(os.environ["CRASH_READY"]).touch()
        # In steps: Python does not notice a signal that comes just before it starts to sleep.
        for _ in range(60):
            time.sleep(2)


SCENARIOS: dict[str, Callable[[Points], None]] = {
    "session": session,
    # Its first launch is refused, by the lab.
    "refused": session,
    "silent": silent,
    "dev up": dev_up,
    "dev down": dev_down,
    "idle": idle,
}


if __name__ == "__main__":
    points = Points(int(sys.argv[2]), Path(os.environ["CRASH_LOG"]))
    install(points)
    SCENARIOS[sys.argv[1]](points)
