"""The recorded state of the dev server.

The field names down to `health_status` are a format that existing launchers read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

import attrs

from comfyloom._money.prices import PriceList
from comfyloom._runcomfy.models import Server
from comfyloom.settings import Settings


class Health(StrEnum):
    """Health of the dev server.

    | health | means | becomes |
    | --- | --- | --- |
    | STOPPED | there is none | LAUNCHING by `up` |
    | LAUNCHING | its launch has no answer yet | STARTING; STOPPED if it was refused |
    | STARTING | the machine exists, but is not ready | HEALTHY; STOPPED if it ended |
    | HEALTHY | its ComfyUI answers | UNREACHABLE, UNKNOWN, STOPPED |
    | UNREACHABLE | it costs money, but its ComfyUI does not answer | HEALTHY, STOPPED |
    | UNKNOWN | the platform does not answer | any |

    Only the platform's report that the machine is gone leads to STOPPED.
    """

    STOPPED = "stopped"
    LAUNCHING = "launching"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


LAUNCHING: Final = "Launching"
STOPPED: Final = "Stopped"


@attrs.frozen(kw_only=True)
class DevState:
    """The dev server, as last seen.

    Attributes:
        server_id: The machine, "" while there is none.
        base_url: The URL of its ComfyUI, "" while unknown. A secret.
        status: The last status that the platform reported, `Launching` before, `Stopped` without a
            machine.
        launch_time: When it was launched, seconds since the epoch; 0 if never.
        workflow_version: The version id that it was launched with.
        total_cost: Cost of all dev servers, including this one so far, in USD.
        session_cost: Cost of this one so far, in USD; None if its price is not known.
        server_type: The machine type.
        last_health_check: When it was last checked, seconds since the epoch; 0 if never.
        health_status: The last health, a value of `Health`.
        api_base_url: The URL of the account's API.
        ready_time: When it became ready and its billing began; 0 before.
        stopping_time: When it ends by itself; 0 if not known.
        launched_for: The distinctive duration of its launch, in seconds.
        known_servers: The machines that existed before the launch, None if not known.
        idle_timeout: Seconds without use after which it ends.
        max_duration: Its longest duration in seconds.
        earlier_cost: The part of `total_cost` of the dev servers before this one.
        unpriced_s: Billed seconds of earlier dev servers with an unknown price.
        is_emulated: Whether the platform is an emulator on this computer.
    """

    server_id: str = ""
    base_url: str = attrs.field(default="", repr=False)
    status: str = STOPPED
    launch_time: float = 0.0
    workflow_version: str = ""
    total_cost: Decimal = Decimal(0)
    session_cost: Decimal | None = Decimal(0)
    user_id: str = ""
    server_type: str = ""
    last_health_check: float = 0.0
    health_status: str = "stopped"
    api_base_url: str = ""
    ready_time: float = 0.0
    stopping_time: float = 0.0
    launched_for: int = 0
    known_servers: tuple[str, ...] | None = None
    idle_timeout: float = 0.0
    max_duration: float = 0.0
    earlier_cost: Decimal = Decimal(0)
    unpriced_s: float = 0.0
    is_emulated: bool = False

    @property
    def is_there(self) -> bool:
        """Whether there is, or may be, a machine that costs money."""
        return bool(self.server_id) or self.is_unanswered

    @property
    def is_unanswered(self) -> bool:
        """Whether a launch was started whose machine is not known."""
        return not self.server_id and self.status == LAUNCHING

    @property
    def ready_at(self) -> datetime | None:
        """When it became ready, None before."""
        return datetime.fromtimestamp(self.ready_time, UTC) if self.ready_time else None

    def is_of(self, settings: Settings) -> bool:
        """Whether it belongs to the account of these settings."""
        base = self.api_base_url or settings.api_base_url
        return (base.rstrip("/"), self.user_id) == (
            settings.api_base_url.rstrip("/"),
            settings.user_id,
        )

    def seen(self, server: Server, now: float, prices: PriceList) -> DevState:
        """Return the state updated with the platform's description of the machine."""
        ready, ends = server.service_ready_at, server.estimated_stopping_at
        state = attrs.evolve(
            self,
            server_id=server.server_id,
            base_url=server.main_service_url or self.base_url,
            status=server.current_status or self.status,
            ready_time=ready.timestamp() if ready else self.ready_time,
            stopping_time=ends.timestamp() if ends else self.stopping_time,
        )
        return state.billed(now, prices)

    def billed(self, now: float, prices: PriceList) -> DevState:
        """Return the state with the cost so far."""
        cost = prices.cost(self.server_type, self.billed_s(now))
        total = self.earlier_cost + (cost or 0)
        return attrs.evolve(self, session_cost=cost, total_cost=total)

    def billed_s(self, now: float) -> float:
        """Return the seconds billed so far."""
        if not self.ready_time:
            return 0.0
        return max(0.0, min(now, self.stopping_time or now) - self.ready_time)

    @property
    def was_seen(self) -> bool:
        """Whether the platform has listed it since its launch."""
        return bool(self.ready_time) or self.health_status not in ("launching", "stopped")

    def ended(
        self,
        now: float,
        prices: PriceList,
        server: Server | None = None,
        *,
        is_cost_known: bool = True,
    ) -> DevState:
        """Return the state after the machine's end.

        Args:
            now: The platform's time, seconds since the epoch.
            prices: What machines cost.
            server: The platform's last description of the machine.
            is_cost_known: Whether a machine that was never seen ready is known to be unbilled.
        """
        if server is not None:
            return self.seen(server, now, prices).ended(now, prices, is_cost_known=is_cost_known)
        last = self.billed(now, prices)
        if not is_cost_known and not self.ready_time:
            last = attrs.evolve(last, session_cost=None)
        unpriced = self.billed_s(now) if last.session_cost is None else 0.0
        return DevState(
            total_cost=last.total_cost,
            session_cost=last.session_cost,
            earlier_cost=last.total_cost,
            user_id=self.user_id,
            server_type=self.server_type,
            workflow_version=self.workflow_version,
            launch_time=self.launch_time,
            api_base_url=self.api_base_url,
            idle_timeout=self.idle_timeout,
            max_duration=self.max_duration,
            last_health_check=now,
            is_emulated=self.is_emulated,
            unpriced_s=self.unpriced_s + unpriced,
        )
