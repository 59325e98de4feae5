"""The interface between a session and the server that runs its workflows."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from comfyloom._backends.availability import Availability
from comfyloom._core.clock import Clock
from comfyloom._core.timeouts import Timeouts
from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._machines.machine import Machine
    from comfyloom._workflow.workflow import Workflow


class Backend(Protocol):
    """Where a session runs its workflows."""

    timeouts: Timeouts
    clock: Clock
    modules: ClassVar[tuple[str, ...]]
    """What its threads would import, and what is therefore imported before they exist."""

    @property
    def is_free_to_open(self) -> bool:
        """Whether `open` would launch nothing."""
        ...

    def open(
        self,
        workflow: type[Workflow[Any]] | None,
        report: ProgressCallback,
        checkpoint: Callable[[], object],
    ) -> ComfyUI:
        """Return the ComfyUI, starting what is needed; threads that call it share one start.

        Args:
            workflow: What will run, None if that is not known.
            report: Called with the progress of a start.
            checkpoint: Called several times a second meanwhile; an exception in it leaves the
                start, and ends it if nobody else waits for it.

        Raises:
            ConfigError: It is unclear which workflow version to launch.
            ComfyloomError: It could not be started.
        """
        ...

    def availability(self) -> Availability:
        """Find out whether a run could begin; it may take long."""
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

    def give_up(self, server: ComfyUI) -> bool:
        """Use a server that it returned no longer; return whether it certainly runs nothing.

        Raises:
            MachineLeak: It was silent, and the stop of its machine is not confirmed.
        """
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
