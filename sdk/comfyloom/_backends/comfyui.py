"""A ComfyUI server at a URL, as a backend."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs

from comfyloom._backends.availability import Availability, why_silent
from comfyloom._backends.shared_start import SharedStart
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.access import NO_ACCESS, Access
from comfyloom._http.address import Address
from comfyloom.progress import ProgressCallback

if TYPE_CHECKING:
    from comfyloom._comfyui.client import ComfyUI
    from comfyloom._machines.machine import Machine
    from comfyloom._workflow.workflow import Workflow

OF_COMFYUI: Final = ("requests", "comfyloom._comfyui.client", "comfyloom._http.tls")


@attrs.define(eq=False)
class ComfyUIBackend:
    """A ComfyUI server that the user runs."""

    modules: ClassVar[tuple[str, ...]] = OF_COMFYUI

    url: str = attrs.field(repr=False)
    access: Access = NO_ACCESS
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    clock: Clock = SYSTEM_CLOCK
    machine: Machine | None = attrs.field(default=None, init=False)
    is_free_to_open: bool = attrs.field(default=True, init=False)
    _comfyui: ComfyUI | None = attrs.field(default=None, init=False, repr=False)
    _starts: SharedStart[ComfyUI] = attrs.field(factory=SharedStart[Any], init=False, repr=False)

    @property
    def timings_key(self) -> str:
        """This server, without its login."""
        return Address.parse(self.url).base_url

    def open(
        self,
        workflow: type[Workflow[Any]] | None,  # noqa: ARG002
        report: ProgressCallback,
        checkpoint: Callable[[], object],
    ) -> ComfyUI:
        """Return the server's client, once it has answered."""
        if self._comfyui is None:
            return self._starts.get(lambda: _FirstContact(self), report, checkpoint)
        return self._comfyui

    def contact(self) -> ComfyUI:
        """Return the client that all runs share, once the server has answered."""
        if self._comfyui is None:
            comfyui = self._connect()
            comfyui.system_stats()
            self._comfyui = comfyui
        return self._comfyui

    def _connect(self) -> ComfyUI:
        from comfyloom._comfyui.client import ComfyUI

        return ComfyUI(self.url, access=self.access, timeouts=self.timeouts, clock=self.clock)

    def availability(self) -> Availability:
        """Ask the server."""
        comfyui = self._comfyui or self._connect()
        why = why_silent(comfyui)
        if comfyui is not self._comfyui:
            comfyui.close()
        if why:
            return Availability.nothing(why)
        why = "the server answers"
        return Availability(available=True, why=why, wait_s=0.0, usd_per_hour=Decimal(0))

    def after_fork(self) -> bool:
        """Forget the parent's client."""
        self._comfyui, self._starts = None, SharedStart()
        return True

    def touch(self) -> None:
        """Do nothing: it has no lease."""

    def check_alive(self, server: ComfyUI) -> None:
        """Do nothing: the server may come back at any time."""

    def give_up(self, server: ComfyUI) -> bool:  # noqa: ARG002
        """Return False: the server may come back at any time."""
        return False

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


@attrs.frozen
class _FirstContact:
    """Waits until the server has answered."""

    backend: ComfyUIBackend

    def run(self, report: ProgressCallback) -> ComfyUI:  # noqa: ARG002
        return self.backend.contact()

    def abandon(self) -> None:
        pass
