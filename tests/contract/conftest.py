"""The servers that the contract is held to: two emulated ones always, a real one when it is named.

    COMFYUI_URL=http://127.0.0.1:8188 python -m pytest tests/contract

The graphs need no models: LoadImage, EmptyImage, SaveImage and PreviewImage are ComfyUI's own.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom._comfyui.client import ComfyUI
from comfyloom.emulator import Emulator, Node, NodeCall, NodeResult
from comfyloom_codegen import generate

REAL = os.environ.get("COMFYUI_URL", "")
SERVERS = ("emulated 0.3.64", "emulated 0.9.0", *(("real",) if REAL else ()))

EMPTY_IMAGE: dict[str, Any] = {
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
    }
}
SLOW = {"width": 4096, "height": 4096, "batch_size": 4}
"""Some seconds of work for the CPU of a real server; longer than a cancel is waited for."""


def _empty(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture

    color = int(call.inputs["color"])
    channels = [(color >> shift & 255) / 255 for shift in (16, 8, 0)]
    return NodeResult(outputs=(Picture(np.full((1, 8, 8, 3), channels, np.float32)),))


def _seconds(inputs: dict[str, Any]) -> float:
    return 6.0 if inputs["width"] > 4000 else 0.0


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a ComfyUI."""
    if request.param == "real":
        if "EmptyImage" not in ComfyUI(REAL).object_info():
            pytest.skip("the server of COMFYUI_URL has no EmptyImage: is it a whole ComfyUI?")
        yield REAL
        return
    node = Node(run=_empty, seconds=_seconds, heedful=lambda _: True)
    version = request.param.rpartition(" ")[2]
    with Emulator(
        time="real",
        run_s=0.0,
        comfyui_version=version,
        object_info=EMPTY_IMAGE,
        nodes={"EmptyImage": node},
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
    """Whether the server has the jobs API."""
    answer = server._http.send("GET", "/api/jobs?limit=1")
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


@pytest.fixture(scope="module")
def copying(made: Callable[..., Any]) -> Any:
    """The class of a workflow that loads a picture and saves it."""
    return made(COPY, COPY_BINDING)


@pytest.fixture(scope="module")
def filling(made: Callable[..., Any]) -> Any:
    """The class of a workflow that makes a picture of one colour; a large one takes seconds."""
    return made(FILL, FILL_BINDING)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture that no server has seen."""
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.frombytes("RGB", (8, 8), os.urandom(192)).save(path)
    return path
