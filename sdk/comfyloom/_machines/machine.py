"""A paid machine that a session uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import ClassVar

import attrs

from comfyloom._comfyui.client import ComfyUI, watch_server
from comfyloom._core.redact import log
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.lease import Lease
from comfyloom._machines.life import Life, Verdict, Word
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
        has_stopped: Whether the platform has confirmed its stop.
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
    has_stopped: bool = attrs.field(default=False, init=False)
    lease: Lease | None = attrs.field(default=None, init=False, repr=False)
    _life: Life = attrs.field(init=False, repr=False)
    # Kept after it is gone: runs that were on it ask about it.
    _client: ComfyUI | None = attrs.field(default=None, init=False, repr=False)
    _status: str = attrs.field(default="", init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._life = Life(self.api.clock, self.api.timeouts, self._ask, lambda: self.is_busy)

    @property
    def is_fresh(self) -> bool:
        """Whether its ComfyUI has answered a moment ago."""
        return self._life.is_fresh

    @property
    def is_silent(self) -> bool:
        """Whether it was given up because it answered no more."""
        return self._life.verdict is Verdict.SILENT

    @property
    def is_busy(self) -> bool:
        """Whether a prompt of this process is known to run, or to wait, there."""
        return self.comfyui is not None and bool(self.comfyui.accepted)

    @property
    def runs_nothing(self) -> bool:
        """Whether it certainly runs nothing any more."""
        return self.has_stopped or self._life.verdict is Verdict.ENDED

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
    def price(self) -> Decimal | None:
        """USD per hour, None if not known."""
        return self.prices.per_hour(self.server_type)

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
        """Ask the platform whether the machine still runs, unless it was found gone before.

        Raises:
            MachineError: It does not, or has not answered for too long.
        """
        if self._life.verdict is Verdict.SILENT:
            text = f"machine {self.server_id} does not answer any more"
            raise MachineError(text, server_id=self.server_id, status="silent")
        if self._life.verdict is Verdict.ALIVE and self._ask() is not Word.ENDED:
            return
        self.billed_s = self.billed_s or self.used_s
        text = f"machine {self.server_id} has ended ({self._status.lower()})"
        raise MachineError(text, server_id=self.server_id, status=self._status)

    def use(self, comfyui: ComfyUI) -> None:
        """Use a client of its ComfyUI, which has just answered, and hear of its answers."""
        self.comfyui = self._client = comfyui
        self._life.heard()
        watch_server(comfyui, self._life)

    def serves(self, server: ComfyUI) -> bool:
        """Whether a client is, or was, that of its ComfyUI."""
        return server is self._client

    def _ask(self) -> Word:
        """Ask the platform; an unreachable one does not mean a dead machine."""
        try:
            self._status = self._end_status()
        except (TransportError, ApiError) as error:
            log.warning("the machine's state is currently unknown: %s", error)
            return Word.NOTHING
        return Word.ENDED if self._status else Word.RUNS

    def _end_status(self) -> str:
        """Return the platform's word for how the machine ended, "" if it runs."""
        try:
            server = self.api.get_server(self.server_id, backoff=NO_RETRY)
        except NotFound:
            # A gateway may have answered in the platform's place: the list must lack it, too.
            servers = self.api.list_servers(backoff=NO_RETRY)
            listed = [each for each in servers if each.server_id == self.server_id]
            if not listed:
                return "gone"
            server = listed[0]
        return server.current_status if server.has_ended else ""

    def disconnect(self) -> None:
        """Close the connections to its ComfyUI."""
        if self.comfyui is not None:
            self.comfyui.close()
