"""Small workflows, and sessions that run them directly on an emulated ComfyUI."""

from __future__ import annotations

from typing import Any

from comfyloom import RunComfySession
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom.emulator import Emulator
from comfyloom_workflows import FluxMeshWorkflow
from support import RENDER, HastyClock


def small_workflow(image: Any = RENDER, **values: Any) -> FluxMeshWorkflow:
    """Return a workflow of 64 by 64 pixels and 4 steps; keywords change its values."""
    given: dict[str, Any] = {"prompt": "a robot", "width": 64, "height": 64, "steps": 4} | values
    return FluxMeshWorkflow(input_image=image, **given)


def direct_session(emulator: Emulator, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> RunComfySession:
    """Return a session on the emulator's ComfyUI, without a machine, that never waits for long."""
    return RunComfySession(emulator.comfyui_url, timeouts=timeouts, clock=HastyClock())
