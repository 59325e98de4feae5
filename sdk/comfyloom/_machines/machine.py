"""A paid machine that a session uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import ClassVar

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.lease import Lease
from comfyloom._money.prices import PriceList
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import ApiError, MachineError, MachineLeak, NotFound, TransportError


@attrs.define(eq=False)
class Machine(ABC):
    """A machine that a session uses: one of its own, or one that it borrowed.

    Args:
        server_type: The machine type.

    Attributes:
        server_id: Its id, "" before it is launched.
        comfyui: The client of its ComfyUI, None while it cannot be used.
        started_in_s: Seconds that its start took, 0 if it was already running.
        billed_s: Billed seconds, 0 until it has ended.
        is_borrowed: Whether it keeps running after the session.
    """

    is_borrowed: ClassVar[bool] = False

    api: ServerApi
    server_type: str
    prices: PriceList = attrs.field(factory=PriceList, repr=False, kw_only=True)
    server_id: str = attrs.field(default="", init=False)
    comfyui: ComfyUI | None = attrs.field(default=None, init=False, repr=False)
    billed_s: float = attrs.field(default=0.0, init=False)
    started_in_s: float = attrs.field(default=0.0, init=False)
    lease: Lease | None = attrs.field(default=None, init=False, repr=False)

    @abstractmethod
    def release(self) -> None:
        """Stop using it; one of our own is stopped."""

    @property
    def leak(self) -> MachineLeak | None:
        """The error of a machine that may still cost money, None if it cannot."""
        return None

    @property
    def used_s(self) -> float:
        """Seconds billed so far."""
        return self.lease.elapsed_s if self.lease else 0.0

    @property
    def seconds(self) -> float:
        """Billed seconds: all of them once it has ended, else those so far."""
        return self.billed_s or self.used_s

    @property
    def cost(self) -> Decimal | None:
        """Its cost so far, in USD; None if its price is unknown."""
        return self.prices.cost(self.server_type, self.seconds)

    @property
    @abstractmethod
    def summary(self) -> str:
        """Human-readable use and cost."""

    def _priced(self) -> str:
        """Return its human-readable cost; an unknown one is never zero."""
        cost = self.cost
        return "price not known" if cost is None else f"{cost:.4f} USD"

    def touch(self) -> None:
        """Renew the lease when half of it is over; cheap, to be called often while in use."""
        if self.lease is not None:
            self.lease.touch()

    def check_alive(self) -> None:
        """Ask the platform whether the machine still runs.

        Raises:
            MachineError: It does not.
        """
        try:
            server = self.api.get_server(self.server_id, backoff=NO_RETRY)
            status = server.current_status if server.has_ended else ""
        except NotFound:
            status = "gone"
        except (TransportError, ApiError) as error:
            log.warning("the machine's state is currently unknown: %s", error)
            return
        if status:
            self.billed_s = self.used_s
            text = f"machine {self.server_id} ended during the run ({status.lower()})"
            raise MachineError(text, server_id=self.server_id, status=status)

    def disconnect(self) -> None:
        """Close the connections to its ComfyUI."""
        if self.comfyui is not None:
            self.comfyui.close()
