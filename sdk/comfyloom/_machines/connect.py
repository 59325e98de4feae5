"""The client of the ComfyUI on a machine."""

from __future__ import annotations

from comfyloom._comfyui.client import ComfyUI
from comfyloom._runcomfy.client import ServerApi


def connect(url: str, api: ServerApi) -> ComfyUI:
    """Return the client of the ComfyUI at a machine's URL."""
    return ComfyUI(url, access=api.machine_access, timeouts=api.timeouts, clock=api.clock)
