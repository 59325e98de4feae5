"""The servers that the contract is held to: three emulated ones, and a real one when it is named.

    COMFYUI_URL=http://127.0.0.1:8188 python -m pytest tests/contract

The graphs need no models: LoadImage, EmptyImage, SaveImage and PreviewImage are ComfyUI's own.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom._comfyui.client import ComfyUI
from comfyloom.emulator import Emulator, Node, NodeCall, NodeResult
from comfyloom_codegen import generate

REAL = os.environ.get("COMFYUI_URL", "")
SERVERS = ("emulated 0.3.64", "emulated 0.8.0", "emulated 0.9.0", *(("real",) if REAL else ()))

NODE_TYPES: dict[str, Any] = {
    "EmptyImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 512, "min": 1, "max": 16384}],
                "height": ["INT", {"default": 512, "min": 1, "max": 16384}],
                "batch_size": ["INT", {"default": 1, "min": 1, "max": 4096}],
                "color": ["INT", {"default": 0, "min": 0, "max": 0xFFFFFF}],
            }
        },
        "output": ["IMAGE"],
    },
    "ImageScale": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "upscale_method": [["nearest-exact", "lanczos"]],
                "width": ["INT", {"default": 512, "min": 0, "max": 16384}],
                "height": ["INT", {"default": 512, "min": 0, "max": 16384}],
                "crop": [["disabled", "center"]],
            }
        },
        "output": ["IMAGE"],
    },
}


def _scale(call: NodeCall) -> NodeResult:
    return NodeResult(outputs=(call.inputs["image"],))


def _empty(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture

    color = int(call.inputs["color"])
    channels = [(color >> shift & 255) / 255 for shift in (16, 8, 0)]
    return NodeResult(outputs=(Picture(np.full((1, 8, 8, 3), channels, np.float32)),))


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a ComfyUI."""
    if request.param == "real":
        if "EmptyImage" not in ComfyUI(REAL).object_info():
            pytest.skip("the server of COMFYUI_URL has no EmptyImage: is it a whole ComfyUI?")
        yield REAL
        return
    nodes = {"EmptyImage": Node(run=_empty), "ImageScale": Node(run=_scale)}
    version = request.param.rpartition(" ")[2]
    with Emulator(
        time="real",
        run_s=0.0,
        comfyui_version=version,
        object_info=NODE_TYPES,
        node_seconds={"ImageScale": 0.06},
        nodes=nodes,
    ) as emulator:
        yield emulator.comfyui_url


@pytest.fixture
def server(url: str) -> Iterator[ComfyUI]:
    """A client for one test."""
    made = ComfyUI(url)
    yield made
    made.close()


@pytest.fixture
def session(url: str) -> Iterator[RunComfySession]:
    with RunComfySession(url) as made:
        yield made


@pytest.fixture
def has_jobs(server: ComfyUI) -> bool:
    """Whether the server describes jobs."""
    answer = server._http.send("GET", "/api/jobs?limit=1")
    return answer.status_code == 200


@pytest.fixture
def cancels_jobs(server: ComfyUI) -> bool:
    """Whether the server cancels jobs, as the newest ones do."""
    answer = server._http.send("POST", f"/api/jobs/{uuid.uuid4()}/cancel")
    return answer.status_code == 200


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that gives the workflow class of a graph and its binding."""
    count = itertools.count()

    def make(graph: dict[str, Any], binding: str) -> Any:
        number = next(count)
        folder = tmp_path_factory.mktemp("contract")
        (folder / "it.json").write_text(json.dumps(graph), "utf-8")
        (folder / "it.toml").write_text(binding, "utf-8")
        package = f"contract_{os.getpid()}_{number}"
        generate(folder, folder, package).raise_for_errors()
        importlib.invalidate_caches()
        sys.path.insert(0, str(folder))
        try:
            return importlib.import_module(package).ItWorkflow
        finally:
            sys.path.remove(str(folder))

    return make


COPY: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy/x"}},
}
COPY_BINDING = """
[inputs]
image = { to = ["1.image"], kind = "image" }
prefix = { to = ["2.filename_prefix"] }

[results]
copy = { node = "2", kind = "image" }
"""
FILL: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 16, "height": 8, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}
FILL_BINDING = """
[inputs]
width = { to = ["1.width"] }
height = { to = ["1.height"] }
batch_size = { to = ["1.batch_size"] }
color = { to = ["1.color"] }

[results]
picture = { node = "2", kind = "image" }
"""


def _lingering(nodes: int = 100) -> dict[str, Any]:
    """Return a graph of many nodes that each take a moment of the CPU, also beside a fast GPU.

    A server heeds an interrupt between two nodes; together they take longer than a cancel is
    waited for.
    """
    graph = json.loads(json.dumps(FILL))
    for number in range(nodes):
        size = {"width": 1024 - number % 2, "height": 1024}
        how = {"upscale_method": "lanczos", "crop": "disabled"}
        before = str(number + 9) if number else "1"
        inputs = {"image": [before, 0], **how, **size}
        graph[str(number + 10)] = {"class_type": "ImageScale", "inputs": inputs}
    graph["2"]["inputs"]["images"] = [str(nodes + 9), 0]
    return graph


LINGER = _lingering()


@pytest.fixture(scope="module")
def lingering(made: Callable[..., Any]) -> Any:
    """The class of a workflow that takes seconds, and can be interrupted at any moment."""
    return made(LINGER, FILL_BINDING)


@pytest.fixture(scope="module")
def copying(made: Callable[..., Any]) -> Any:
    """The class of a workflow that loads a picture and saves it."""
    return made(COPY, COPY_BINDING)


@pytest.fixture(scope="module")
def filling(made: Callable[..., Any]) -> Any:
    """The class of a workflow that makes a picture of one colour."""
    return made(FILL, FILL_BINDING)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture that no server has seen."""
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.frombytes("RGB", (8, 8), os.urandom(192)).save(path)
    return path
