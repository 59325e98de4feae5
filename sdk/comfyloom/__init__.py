"""Typed, blocking Python SDK for ComfyUI workflows on RunComfy machines.

    from comfyloom import RunComfySession
    from comfyloom_workflows import FluxMeshWorkflow

    with RunComfySession() as session:
        result = session.run(FluxMeshWorkflow(input_image="render.png", prompt="a brass automaton"))
    result.image.save("flux.png")

Every name is imported when it is first used: a program that only builds workflows never loads an
HTTP library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyloom import errors, inputs, outputs
    from comfyloom._dev.health import DevStatus
    from comfyloom._dev.server import DevServer
    from comfyloom._session.run import Run
    from comfyloom._session.session import RunComfySession
    from comfyloom._workflow.files import FileSource, ImageSource
    from comfyloom._workflow.graph import Graph
    from comfyloom._workflow.outputs import (
        AnimationOutput,
        AudioOutput,
        FileOutput,
        ImageOutput,
        MeshOutput,
        Output,
        VideoOutput,
    )
    from comfyloom._workflow.workflow import (
        Result,
        Workflow,
        chainable,
        result_class,
        workflow_class,
    )
    from comfyloom.progress import Progress, Stage
    from comfyloom.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "comfyloom": ("errors", "inputs", "outputs"),
    "comfyloom._workflow.files": ("FileSource", "ImageSource"),
    "comfyloom._workflow.graph": ("Graph",),
    "comfyloom._dev.health": ("DevStatus",),
    "comfyloom._dev.server": ("DevServer",),
    "comfyloom._workflow.outputs": (
        *("AnimationOutput", "AudioOutput", "FileOutput", "ImageOutput", "MeshOutput", "Output"),
        "VideoOutput",
    ),
    "comfyloom.progress": ("Progress", "Stage"),
    "comfyloom._session.run": ("Run",),
    "comfyloom._session.session": ("RunComfySession",),
    "comfyloom.settings": ("Settings",),
    "comfyloom._workflow.workflow": (
        "Result",
        "Workflow",
        "chainable",
        "result_class",
        "workflow_class",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AnimationOutput",
    "AudioOutput",
    "DevServer",
    "DevStatus",
    "FileOutput",
    "FileSource",
    "Graph",
    "ImageOutput",
    "ImageSource",
    "MeshOutput",
    "Output",
    "Progress",
    "Result",
    "Run",
    "RunComfySession",
    "Settings",
    "Stage",
    "VideoOutput",
    "Workflow",
    "chainable",
    "errors",
    "inputs",
    "outputs",
    "result_class",
    "workflow_class",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == __name__:
        return importlib.import_module(f"{home}.{name}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
