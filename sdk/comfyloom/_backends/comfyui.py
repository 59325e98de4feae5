"""A ComfyUI server at a URL, as a backend."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom._machines.machine import Machine


@attrs.define(eq=False)
class ComfyUIBackend:
    """A ComfyUI server that somebody else runs."""

    url: str = attrs.field(repr=False)
    clock: Clock = SYSTEM_CLOCK
    machine: Machine | None = attrs.field(default=None, init=False)
    _comfyui: ComfyUI | None = attrs.field(default=None, init=False, repr=False)

    @property
    def timings_key(self) -> str:
        """This server."""
        return self.url

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI:  # noqa: ARG002
        """Return the server's client, once it has answered."""
        if self._comfyui is None:
            comfyui = ComfyUI(self.url, clock=self.clock)
            comfyui.system_stats()
            self._comfyui = comfyui
        return self._comfyui

    def touch(self) -> None:
        """Do nothing: it is not ours."""

    def still_there(self) -> None:
        """Do nothing: whether it comes back, only it knows."""

    def summary(self) -> list[str]:
        """Return nothing: no machine is paid for."""
        return []

    def cost(self) -> Decimal:
        """Return 0: what it costs is somebody else's business."""
        return Decimal(0)

    def close(self) -> None:
        """Close the connections."""
        if self._comfyui is not None:
            self._comfyui.close()
