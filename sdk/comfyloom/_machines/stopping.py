"""Stopping a machine until the platform confirms it."""

from __future__ import annotations

from typing import Final

import attrs

from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.starting import YOUNG_S
from comfyloom._money.prices import PriceList
from comfyloom._runcomfy.client import STATUS_S, ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import (
    ApiError,
    Forbidden,
    MachineLeak,
    NotFound,
    RateLimited,
    TransportError,
    Unauthorized,
)

LONGEST_STOP_S: Final = 120.0
RETRY_S: Final = 2.0


@attrs.frozen(kw_only=True)
class Stopped:
    """How a machine ended.

    Attributes:
        was_there: Whether the platform has ever known it.
        server: What the platform told of it in the end, None if it did not.
        by: What confirmed it: `deleted` or `not found`.
    """

    was_there: bool
    by: str
    server: Server | None = None


@attrs.frozen(kw_only=True)
class Stopping:
    """One machine that has to end.

    Args:
        api: The account.
        server_id: The machine.
        server_type: Its kind, for its price.
        seen: Whether the platform has ever shown it to us.
        launched_at: When it was launched, by the API's clock.
        prices: What it costs.
        is_patient: Whether a refusal of the account (401, 403) is tried again, as one that passes
            when a token is changed; else it is raised at once.
    """

    api: ServerApi
    server_id: str
    server_type: str
    seen: bool
    launched_at: float
    prices: PriceList = attrs.field(factory=PriceList)
    is_patient: bool = True

    def confirm(self, longest_s: float = LONGEST_STOP_S) -> Stopped:
        """Stop the machine and return when the platform has confirmed it.

        Raises:
            MachineLeak: It was not confirmed in time; the machine may still cost money.
            Unauthorized, Forbidden: The account may not, and nobody is patient.
        """
        deadline = Deadline.after(longest_s, self.api.clock)
        last: Exception | None = None
        while not deadline.over:
            try:
                if (stopped := self._attempt(deadline.remaining_s)) is not None:
                    return stopped
            except (TransportError, ApiError) as error:
                if isinstance(error, Unauthorized | Forbidden) and not self.is_patient:
                    raise
                # Each reason is told once, not every two seconds; to be too quick is no reason.
                if str(error) != str(last) and not isinstance(error, RateLimited):
                    log.error("machine %s does not stop: %s", self.server_id, error)
                last = error
            self.api.clock.sleep(min(RETRY_S, deadline.remaining_s))
        reason = str(last or "the platform does not confirm its end")
        raise leak(self.server_id, self.server_type, reason, self.prices)

    def _attempt(self, longest_s: float) -> Stopped | None:
        try:
            server = self.api.stop_server(self.server_id, timeout_s=min(longest_s, STATUS_S))
        except NotFound:
            return Stopped(was_there=self.seen, by="not found") if self._is_gone() else None
        return Stopped(was_there=True, by="deleted", server=server)

    def _is_gone(self) -> bool:
        """Judge a 404: a machine that was launched seconds ago gives one as well."""
        if self.seen:
            return True
        if self.api.clock.monotonic() - self.launched_at < YOUNG_S:
            return False
        servers = self.api.list_servers(backoff=NO_RETRY)
        return all(server.server_id != self.server_id for server in servers)


def leak(server_id: str, server_type: str, reason: str, prices: PriceList) -> MachineLeak:
    """Return the error that says how to stop a machine by hand, and what it costs until then."""
    name = f"machine {server_id}" if server_id else "a machine"
    command = f"comfyloom machines stop {server_id}" if server_id else "comfyloom machines list"
    return MachineLeak(
        f"{name} ({server_type}, {prices.rate(server_type)}) may still be running: {reason}. "
        f"Stop it: {command}, or RunComfy's dashboard",
        server_id=server_id,
        reason=reason,
    )
