"""A ComfyUI server at a URL, as a backend."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.access import NO_ACCESS, Access
from comfyloom._http.address import Address
from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._machines.machine import Machine


@attrs.define(eq=False)
class ComfyUIBackend:
    """A ComfyUI server that the user runs."""

    url: str = attrs.field(repr=False)
    access: Access = NO_ACCESS
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    clock: Clock = SYSTEM_CLOCK
    machine: Machine | None = attrs.field(default=None, init=False)
    _comfyui: ComfyUI | None = attrs.field(default=None, init=False, repr=False)

    @property
    def timings_key(self) -> str:
        """This server, without its login."""
        return Address.parse(self.url).base_url

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI:  # noqa: ARG002
        """Return the server's client, once it has answered."""
        if self._comfyui is None:
            from comfyloom._comfyui.client import ComfyUI

            comfyui = ComfyUI(
                self.url, access=self.access, timeouts=self.timeouts, clock=self.clock
            )
            comfyui.system_stats()
            self._comfyui = comfyui
        return self._comfyui

    def after_fork(self) -> bool:
        """Forget the parent's client."""
        self._comfyui = None
        return True

    def touch(self) -> None:
        """Do nothing: it has no lease."""

    def check_alive(self, server: ComfyUI) -> None:
        """Do nothing: the server may come back at any time."""

    @property
    def summary(self) -> list[str]:
        """Empty: no machine is billed."""
        return []

    @property
    def cost(self) -> Decimal:
        """0: its cost is outside of our control."""
        return Decimal(0)

    def close(self) -> None:
        """Close the connections."""
        if self._comfyui is not None:
            self._comfyui.close()
