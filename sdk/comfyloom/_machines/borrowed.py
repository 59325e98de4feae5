"""A machine that another process started and will stop: the dev server."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._machines.lease import Lease
from comfyloom._machines.machine import Machine
from comfyloom._runcomfy.models import Server

RENEW_AT_END: Final = 0.9
"""At the end of use the lease is renewed if at most this share of it is left."""


@attrs.define(eq=False)
class BorrowedMachine(Machine):
    """A machine that keeps running after the session; use renews its lease.

    Its cost covers the time for which it was borrowed.
    """

    is_borrowed: ClassVar[bool] = True

    _since_s: float = attrs.field(default=0.0, init=False, repr=False)

    @property
    def used_s(self) -> float:
        """Billed seconds since it was borrowed."""
        return max(0.0, super().used_s - self._since_s)

    @property
    def summary(self) -> str:
        """How long it was used, and its cost."""
        return (
            f"machine {self.server_id} ({self.server_type}): used for {self.seconds:.0f} s, "
            f"{self._priced()}; the dev server keeps running"
        )

    def take(self, server: Server, comfyui: ComfyUI, lease: Lease) -> None:
        """Start using it."""
        self.server_id, self.lease = server.server_id, lease
        self.use(comfyui)
        lease.note(server)
        self._since_s = lease.elapsed_s
        self.touch()

    def release(self) -> None:
        """Leave it running, for its full lease from now on."""
        if self.comfyui is None or self.lease is None:
            return
        self.billed_s = self.seconds
        if self.lease.left_s <= RENEW_AT_END * self.lease.seconds:
            self.lease.renew()
        self.disconnect()
        self.comfyui = None
