"""The places that a session runs its workflows at."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

import attrs

from comfyloom._clock import SYSTEM_CLOCK, Clock
from comfyloom.comfyui.client import ComfyUI
from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom.machines import Machine


class Place(Protocol):
    """Where a session runs its workflows."""

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI | None:
        """Return the ComfyUI, starting what has to be started.

        Args:
            workflow: The name of the workflow file, None before the first run; when it is needed
                to know what to launch, and is None, nothing happens and None is returned.
            report: Told how it goes.
        """
        ...

    def touch(self) -> None:
        """Keep it alive: it is in use."""
        ...

    def still_there(self) -> None:
        """Raise when it has ended for good."""
        ...

    def close(self) -> None:
        """End what `open` started."""
        ...

    @property
    def timings_key(self) -> str:
        """What names the places where a run takes as long as here: the type of the machine."""
        ...

    @property
    def machine(self) -> Machine | None:
        """The paid machine, None if there is none."""
        ...

    def summary(self) -> list[str]:
        """Return what was used of each machine and what that cost, for people."""
        ...

    def cost(self) -> Decimal | None:
        """Return what it has cost in USD; None when a price is not known."""
        ...


@attrs.define(eq=False)
class PlainPlace:
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
