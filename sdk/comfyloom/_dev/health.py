"""Health of the dev server, as reported by the platform and its ComfyUI."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import attrs

from comfyloom._core.json import mapping, text
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.connect import connect
from comfyloom._money.prices import PriceList
from comfyloom._records.dev_state import DevState, Health
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.machine_url import machine_url
from comfyloom._runcomfy.models import Server
from comfyloom.errors import ApiError, NotFound, TransportError

PROBES: Final = 3


@attrs.frozen(kw_only=True)
class DevStatus:
    """Status of the dev server.

    Attributes:
        health: `stopped` (there is none), `launching`, `starting`, `healthy`, `unreachable` (it
            runs and costs money, but its ComfyUI does not answer) or `unknown` (the platform does
            not answer).
        server_id: The machine, "" if there is none.
        server_type: The machine type.
        workflow_version: The version id that it was launched with.
        api_status: The status that the platform reports, "" if none.
        reason: Why it is not healthy, "" if it is.
        comfyui_version: The version of its ComfyUI, "" if not known.
        uptime_s: Seconds since it became ready, 0 before.
        lease_left_s: Seconds until it ends by itself, None if not known.
        price: USD per hour, None if not known.
        session_cost: What it has cost so far, in USD; None if its price is not known.
        total_cost: Known cost of this and all earlier dev servers, in USD; None if none is known.
        unpriced_s: Billed seconds of this and earlier dev servers with an unknown price.
        running: Ids of the running prompts.
        pending: Ids of the pending prompts.
    """

    health: Health = Health.STOPPED
    server_id: str = ""
    server_type: str = ""
    workflow_version: str = ""
    api_status: str = ""
    reason: str = ""
    comfyui_version: str = ""
    uptime_s: float = 0.0
    lease_left_s: float | None = None
    price: Decimal | None = None
    session_cost: Decimal | None = Decimal(0)
    total_cost: Decimal | None = Decimal(0)
    unpriced_s: float = 0.0
    running: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether there is, or may be, a machine that costs money."""
        return self.health != Health.STOPPED


@attrs.frozen(kw_only=True)
class HealthCheck:
    """The result of one check of the dev server.

    Attributes:
        server: The platform's description of the machine, None if it gave none.
        has_ended: Whether the platform says that it is gone.
        reason: Why it is not healthy.
        version: The version of its ComfyUI.
    """

    server: Server | None = None
    has_ended: bool = False
    health: Health = Health.UNKNOWN
    reason: str = ""
    version: str = ""
    running: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


def status_of(state: DevState, seen: HealthCheck, now: float, prices: PriceList) -> DevStatus:
    """Return the status from the recorded state and a health check."""
    there = state.is_there
    state = state.billed(now, prices) if there else state
    is_unpriced = state.session_cost is None
    unpriced_s = state.unpriced_s + (state.billed_s(now) if there and is_unpriced else 0.0)
    # An unknown cost must not be reported as zero.
    is_known = bool(state.total_cost) or not (unpriced_s or is_unpriced)
    return DevStatus(
        health=seen.health if there else Health.STOPPED,
        server_id=state.server_id,
        server_type=state.server_type,
        workflow_version=state.workflow_version,
        api_status=seen.server.current_status if seen.server else "",
        reason=seen.reason,
        comfyui_version=seen.version,
        uptime_s=state.billed_s(now) if there else 0.0,
        lease_left_s=max(0.0, state.stopping_time - now) if state.stopping_time else None,
        price=prices.per_hour(state.server_type),
        session_cost=state.session_cost,
        total_cost=state.total_cost if is_known else None,
        unpriced_s=unpriced_s,
        running=seen.running,
        pending=seen.pending,
    )


def check_health(state: DevState, api: ServerApi, *, probes: int = PROBES) -> HealthCheck:
    """Ask the platform, then the dev server's ComfyUI, up to `probes` times.

    Only the platform can say that it has ended: a ComfyUI that does not answer may belong to a
    machine that costs money.

    Raises:
        ApiError: The platform refuses for good, for example because of a wrong token.
    """
    try:
        server = _find(state, api)
    except (TransportError, ApiError) as error:
        if isinstance(error, ApiError) and error.is_final:
            raise
        return HealthCheck(reason=str(error))
    if server is None:
        if not state.was_seen and api.now() - state.launch_time < api.timeouts.young_s:
            return HealthCheck(health=Health.STARTING, reason="the platform does not list it yet")
        return HealthCheck(
            has_ended=True, health=Health.STOPPED, reason="the platform no longer knows it"
        )
    if server.has_ended:
        return HealthCheck(
            server=server, has_ended=True, health=Health.STOPPED, reason=server.current_status
        )
    if not server.is_ready:
        status = server.current_status.lower()
        return HealthCheck(
            server=server, health=Health.STARTING, reason="" if status == "starting" else status
        )
    return _probe(server, api, probes)


def prompts_of(state: DevState, api: ServerApi) -> HealthCheck:
    """Check the prompts of the dev server; the platform is only asked for an unknown URL."""
    server = Server(server_id=state.server_id, main_service_url=state.base_url or None)
    if not state.base_url:
        try:
            server = api.get_server(state.server_id, backoff=NO_RETRY)
        except (TransportError, ApiError) as error:
            return HealthCheck(reason=str(error))
        if not server.is_ready:
            return HealthCheck(server=server, health=Health.STARTING)
    return _probe(server, api, PROBES)


def _find(state: DevState, api: ServerApi) -> Server | None:
    """Return the machine, None if both its description and the list lack it.

    A 404 alone may come from a gateway.
    """
    try:
        backoff = attrs.evolve(api.backoff, total_s=api.timeouts.dev_check_s)
        return api.get_server(state.server_id, backoff=backoff)
    except NotFound:
        listed = {server.server_id: server for server in api.list_servers()}
        return listed.get(state.server_id)


def _probe(server: Server, api: ServerApi, probes: int) -> HealthCheck:
    comfyui = connect(machine_url(server), api)
    reason = ""
    how: dict[str, Any] = {"backoff": NO_RETRY, "timeout_s": api.timeouts.probe_s}
    try:
        for attempt in range(probes):
            if attempt:
                api.clock.sleep(api.timeouts.dev_probe_every_s)
            try:
                version = comfyui_version(comfyui.system_stats(**how))
                running, pending = comfyui.queue(**how)
            except (TransportError, ApiError) as error:
                reason = str(error)
            else:
                return HealthCheck(
                    server=server,
                    health=Health.HEALTHY,
                    version=version,
                    running=running,
                    pending=pending,
                )
    finally:
        comfyui.close()
    return HealthCheck(server=server, health=Health.UNREACHABLE, reason=reason)


def comfyui_version(stats: Any) -> str:
    """Return the version in `/system_stats`, "" if there is none."""
    return text(mapping(mapping(stats).get("system")).get("comfyui_version")) or ""
