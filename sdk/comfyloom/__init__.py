"""Typed, blocking Python SDK for ComfyUI workflows on RunComfy machines.

    from comfyloom import RunComfySession
    from comfyloom_workflows import FluxMeshWorkflow

    with RunComfySession() as session:
        result = session.run(FluxMeshWorkflow(input_image="render.png", prompt="a brass automaton"))
    result.image.save("flux.png")

This module has the names to start with. `comfyloom.errors` has every exception, `comfyloom.outputs`
and `comfyloom.inputs` the parts of results and workflow classes, `comfyloom.progress` the events of
a run, `comfyloom.settings` the account, `comfyloom.types` the other types in public signatures,
`comfyloom.emulator` and `comfyloom.testing` an emulated RunComfy for your own tests.

Each name is imported when it is first used: a program that only builds workflows never loads an
HTTP library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from comfyloom._core.version import __version__

if TYPE_CHECKING:
    # A name that `__all__` leaves out is exported by its alias.
    from comfyloom import errors, inputs, outputs, progress, types
    from comfyloom._core.timeouts import Timeouts as Timeouts
    from comfyloom._dev.health import DevStatus as DevStatus
    from comfyloom._dev.server import DevServer
    from comfyloom._session.run import Run
    from comfyloom._session.session import RunComfySession
    from comfyloom._workflow.files import FileSource as FileSource
    from comfyloom._workflow.files import ImageSource as ImageSource
    from comfyloom._workflow.graph import Graph as Graph
    from comfyloom._workflow.outputs import AnimationOutput as AnimationOutput
    from comfyloom._workflow.outputs import AudioOutput as AudioOutput
    from comfyloom._workflow.outputs import FileOutput as FileOutput
    from comfyloom._workflow.outputs import ImageOutput as ImageOutput
    from comfyloom._workflow.outputs import MeshOutput as MeshOutput
    from comfyloom._workflow.outputs import Output as Output
    from comfyloom._workflow.outputs import VideoOutput as VideoOutput
    from comfyloom._workflow.picture_lists import ImageSources as ImageSources
    from comfyloom._workflow.workflow import (
        Result,
        Workflow,
        chainable,
        result_class,
        workflow_class,
    )
    from comfyloom.progress import Progress as Progress
    from comfyloom.progress import ProgressCallback as ProgressCallback
    from comfyloom.progress import Stage as Stage
    from comfyloom.settings import Settings as Settings

_HOMES = {
    "comfyloom": ("errors", "inputs", "outputs", "progress", "types"),
    "comfyloom._core.timeouts": ("Timeouts",),
    "comfyloom._dev.health": ("DevStatus",),
    "comfyloom._dev.server": ("DevServer",),
    "comfyloom._session.run": ("Run",),
    "comfyloom._session.session": ("RunComfySession",),
    "comfyloom._workflow.files": ("FileSource", "ImageSource"),
    "comfyloom._workflow.picture_lists": ("ImageSources",),
    "comfyloom._workflow.graph": ("Graph",),
    "comfyloom._workflow.outputs": (
        *("AnimationOutput", "AudioOutput", "FileOutput", "ImageOutput", "MeshOutput", "Output"),
        "VideoOutput",
    ),
    "comfyloom._workflow.workflow": (
        *("Result", "Workflow", "chainable", "result_class", "workflow_class"),
    ),
    "comfyloom.progress": ("Progress", "ProgressCallback", "Stage"),
    "comfyloom.settings": ("Settings",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

# Where to start; `dir(comfyloom)` has every name that can be imported from here.
__all__ = [
    "DevServer",
    "Result",
    "Run",
    "RunComfySession",
    "Workflow",
    "__version__",
    "chainable",
    "errors",
    "inputs",
    "outputs",
    "progress",
    "result_class",
    "types",
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
    modules = ("__all__", "__doc__", "__file__", "__name__", "__path__", "__version__")
    return sorted({*_HOME_OF, *modules})
