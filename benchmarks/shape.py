"""The shape of the code in numbers: sizes, single-use helpers, and how far a workflow travels.

    python benchmarks/shape.py

Lines are all lines of Python files, blank ones and comments included. A *single-use helper* is a
private function of under six lines whose name is used once. *Hops* are the changes of module on the
call stack from `RunComfySession.run` to the POST of the graph; the start of the run's thread counts
as a call. *Climbs* are the calls from a layer (see `pyproject.toml`) to a higher one while `run`
checks a workflow.
"""

from __future__ import annotations

import ast
import sys
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
SDK = ROOT / "sdk" / "comfyloom"
EMULATOR = ROOT / "sdk" / "comfyloom_emulator"
PACKAGES = (SDK, EMULATOR, ROOT / "codegen", ROOT / "generated")
LONG_FILE = 400
SHORT_FUNCTION = 6


def sources(*folders: Path) -> dict[Path, str]:
    """Return the text of each Python file below some folders."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return {path: path.read_text("utf-8") for path in paths}


def lines(files: dict[Path, str]) -> int:
    return sum(len(text.splitlines()) for text in files.values())


def public_modules() -> list[str]:
    found = {path.stem for path in SDK.iterdir() if path.suffix == ".py" or path.is_dir()}
    return sorted(name for name in found if not name.startswith("_"))


def long_files() -> list[str]:
    everything = sources(*PACKAGES, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples")
    return [
        f"{path.relative_to(ROOT)} {len(text.splitlines())}"
        for path, text in everything.items()
        if len(text.splitlines()) > LONG_FILE
    ]


def single_use_helpers(files: dict[Path, str]) -> list[str]:
    uses: Counter[str] = Counter()
    short: list[str] = []
    for text in files.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name):
                uses[node.id] += 1
            elif isinstance(node, ast.Attribute):
                uses[node.attr] += 1
            elif isinstance(node, ast.FunctionDef) and is_short_and_private(node):
                short.append(node.name)
    return [name for name in short if uses[name] == 1]


def is_short_and_private(node: ast.FunctionDef) -> bool:
    is_private = node.name.startswith("_") and not node.name.endswith("__")
    return is_private and (node.end_lineno or 0) - node.lineno + 1 < SHORT_FUNCTION


def longest_class(files: dict[Path, str]) -> tuple[int, str]:
    return max(
        ((node.end_lineno or 0) - node.lineno + 1, node.name)
        for text in files.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    )


def modules_on(frame: FrameType | None) -> list[str]:
    """Return the comfyloom modules on a call stack, innermost first, without repetition."""
    found: list[str] = []
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("comfyloom.") and (not found or found[-1] != name):
            found.append(name)
        frame = frame.f_back
    return found


def hops() -> list[str]:
    """Run a workflow on the emulator; return the modules from `run` to the POST of its graph."""
    import requests

    from comfyloom import RunComfySession
    from comfyloom.emulator import Emulator
    from comfyloom_workflows import FluxMeshWorkflow

    started: dict[str, list[str]] = {}
    routes: list[list[str]] = []
    start, send = threading.Thread.start, requests.Session.request

    def record_start(thread: threading.Thread) -> None:
        started[thread.name] = modules_on(sys._getframe())
        start(thread)

    def record_send(session: requests.Session, method: str, url: str, **options: Any) -> Any:
        if method == "POST" and url.endswith("/prompt"):
            before = started.get(threading.current_thread().name, [])
            inner = modules_on(sys._getframe())
            routes.append([*reversed(before), *reversed(inner)])
        return send(session, method, url, **options)

    threading.Thread.start, requests.Session.request = record_start, record_send  # type: ignore[method-assign, assignment]
    try:
        with Emulator() as emulator, RunComfySession(emulator.comfyui_url) as session:
            session.run(
                FluxMeshWorkflow(
                    input_image=ROOT / "examples" / "render.png", prompt="x", width=64, height=64
                )
            )
    finally:
        threading.Thread.start, requests.Session.request = start, send  # type: ignore[method-assign]
    (route,) = routes
    return [name for at, name in enumerate(route) if at == 0 or name != route[at - 1]]


def floors() -> dict[str, int]:
    """Return the height of each package of the SDK, by the contract of import-linter."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    layers = [layer.split(" | ") for layer in reversed(contract["layers"])]
    return {room: height for height, rooms in enumerate(layers) for room in rooms}


def climbs() -> Iterator[str]:
    """Check a workflow as `run` does, and yield each call from a layer to a higher one."""
    from comfyloom._workflow import run_values
    from comfyloom._workflow.validation import validate
    from comfyloom_workflows import FluxMeshWorkflow

    height, found = floors(), []

    def room_of(frame: FrameType | None) -> str:
        name = str(frame.f_globals.get("__name__", "")) if frame is not None else ""
        return name.split(".")[1] if name.startswith("comfyloom.") else ""

    def profile(frame: FrameType, event: str, _: object) -> None:
        caller, callee = room_of(frame.f_back), room_of(frame)
        if event == "call" and height.get(callee, -1) > height.get(caller, 99):
            found.append(f"{caller} -> {callee}")

    workflow = FluxMeshWorkflow(input_image=ROOT / "examples" / "render.png", prompt="x")
    sys.setprofile(profile)
    try:
        run_values.read_files(workflow)
        validate(workflow)
        run_values.draw_seeds(workflow, lambda bound: bound)
    finally:
        sys.setprofile(None)
    yield from found


def main() -> None:
    core, everything = sources(SDK), sources(*PACKAGES)
    hand_written = sources(SDK, ROOT / "codegen")
    helpers = single_use_helpers(hand_written)
    size, name = longest_class(everything)
    route, up = hops(), list(climbs())
    tests = lines(sources(ROOT / "tests"))
    modules = public_modules()
    print(f"public top-level modules        {len(modules)}: {', '.join(modules)}")
    print(f"files over {LONG_FILE} lines            {len(long_files())} {', '.join(long_files())}")
    print(f"SDK core, lines                 {lines(core)}")
    print(f"emulator, lines                 {lines(sources(EMULATOR))}")
    print(f"single-use helpers              {len(helpers)}")
    print(f"longest class                   {size} lines, {name}")
    print(f"hops from run to POST           {len(route) - 1}: {' > '.join(route)}")
    print(f"climbs of a workflow            {len(up)} {', '.join(up)}")
    print(f"tests / code without emulator   {tests / lines(hand_written):.2f}")


if __name__ == "__main__":
    main()
