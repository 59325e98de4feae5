"""The interface between a session and the server that runs its workflows."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._machines.machine import Machine


class Backend(Protocol):
    """Where a session runs its workflows."""

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI | None:
        """Return the ComfyUI, starting what is needed.

        Args:
            workflow: The name of the workflow file, None before the first run; if it is needed to
                select what to launch, None is returned.
            report: Called with the progress of a start.
        """
        ...

    def after_fork(self) -> bool:
        """Begin anew in a forked child; return False if what it uses belongs to the parent."""
        ...

    def touch(self) -> None:
        """Keep it alive: it is in use."""
        ...

    def check_alive(self, server: ComfyUI) -> None:
        """Raise `MachineError` if a server that it returned has ended for good."""
        ...

    def close(self) -> None:
        """End what `open` started."""
        ...

    @property
    def timings_key(self) -> str:
        """Key for run-time statistics (same machine type)."""
        ...

    @property
    def machine(self) -> Machine | None:
        """The paid machine, None if there is none."""
        ...

    @property
    def summary(self) -> list[str]:
        """One human-readable line for each machine: its use and cost."""
        ...

    @property
    def cost(self) -> Decimal | None:
        """The cost so far, in USD; None if a price is unknown."""
        ...
