"""Stopping a machine until the platform confirms it."""

from __future__ import annotations

import sys
from contextlib import suppress

import attrs

from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._http.retry import NO_RETRY
from comfyloom._money.prices import PriceList
from comfyloom._records.tracker import NullTracker
from comfyloom._runcomfy.client import ServerApi
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


@attrs.frozen(kw_only=True)
class Stopped:
    """How a machine ended.

    Attributes:
        was_there: Whether the platform ever knew it.
        server: Its last description, None if the platform gave none.
        by: What confirmed it: `deleted` or `not found`.
    """

    was_there: bool
    by: str
    server: Server | None = None


@attrs.frozen(kw_only=True)
class Stopping:
    """A machine that must end.

    Args:
        server_type: Its type, for its price.
        was_seen: Whether the platform ever listed it.
        launched_at: When it was launched, by the API's clock.
        retry_auth_errors: Whether to retry after 401 and 403, which may pass once a token is
            changed; otherwise they are raised at once.
    """

    api: ServerApi
    server_id: str
    server_type: str
    was_seen: bool
    launched_at: float
    prices: PriceList = attrs.field(factory=PriceList)
    retry_auth_errors: bool = True

    def confirm(self, longest_s: float | None = None) -> Stopped:
        """Stop the machine and return once the platform has confirmed it.

        Raises:
            MachineLeak: It was not confirmed in time; the machine may still cost money.
            Unauthorized, Forbidden: The account may not stop it (without `retry_auth_errors`).
        """
        timeouts = self.api.timeouts
        deadline = Deadline.after(
            timeouts.stop_s if longest_s is None else longest_s, self.api.clock
        )
        last: Exception | None = None
        for left_s in polling(timeouts.stop_retry_s, deadline):
            try:
                if (stopped := self._attempt(left_s)) is not None:
                    return stopped
            except (TransportError, ApiError) as error:
                if isinstance(error, Unauthorized | Forbidden) and not self.retry_auth_errors:
                    raise
                # Log each reason once, not every two seconds; a rate limit is not a reason.
                if str(error) != str(last) and not isinstance(error, RateLimited):
                    log.error("machine %s does not stop: %s", self.server_id, error)
                last = error
        reason = str(last or "the platform does not confirm its end")
        raise leak(self.server_id, self.server_type, reason, self.prices)

    def _attempt(self, longest_s: float) -> Stopped | None:
        timeouts = self.api.timeouts
        timeout_s = max(1.0, min(longest_s, timeouts.status_s))
        try:
            server = self.api.stop_server(self.server_id, timeout_s=timeout_s)
        except NotFound:
            # A machine that was launched seconds ago may give a 404 as well.
            is_young = self.api.clock.monotonic() - self.launched_at < timeouts.young_s
            if not self.was_seen and is_young:
                return None
            by, was_there = "not found", self.was_seen
        except ApiError as error:
            if not 200 <= error.status < 300:
                raise
            by, was_there = "deleted", True
        else:
            return Stopped(was_there=True, by="deleted", server=server)
        # A gateway may have answered in the platform's place: the list must lack it, too.
        servers = self.api.list_servers(backoff=NO_RETRY)
        if any(each.server_id == self.server_id and not each.has_ended for each in servers):
            return None
        return Stopped(was_there=was_there, by=by)


def stop_guarded(stopping: Stopping, tracker: NullTracker) -> Stopped:
    """Stop a machine and record it: for some seconds here, then the guard continues, if any.

    Raises:
        MachineLeak: The end was not confirmed; the machine may still cost money.
    """
    # Record nothing before: a locked ledger must not delay the stop.
    timeouts = stopping.api.timeouts
    longest_s = timeouts.guarded_stop_s if tracker.is_guarded else timeouts.stop_s
    try:
        stopped = stopping.confirm(longest_s)
    except MachineLeak as error:
        raise leave_to_guard(
            tracker, stopping.server_id, stopping.server_type, error.reason, stopping.prices
        ) from None
    tracker.record_ended(stopped.by)
    return stopped


def leave_to_guard(
    tracker: NullTracker, server_id: str, server_type: str, reason: str, prices: PriceList
) -> MachineLeak:
    """Print and return the error of a machine that may still be running.

    The guard, if there is one, keeps trying to stop it.
    """
    tracker.record_stopping()
    if tracker.hand_over_to_guard():
        reason += "; a guard process keeps trying to stop it for 10 minutes"
    error = leak(server_id, server_type, reason, prices)
    with suppress(OSError, ValueError):  # stderr may be closed, or its disk full
        print(f"comfyloom: {error}", file=sys.stderr)  # noqa: T201 - it costs money
        error.already_printed = True
    return error


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
