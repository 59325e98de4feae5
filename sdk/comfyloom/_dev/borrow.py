"""Using the dev server in a session instead of launching a machine."""

from __future__ import annotations

from typing import Final

import attrs

from comfyloom._dev import account
from comfyloom._dev.health import check_health
from comfyloom._dev.record import DevRecord
from comfyloom._dev.reuse import await_start
from comfyloom._machines.borrowed import BorrowedMachine
from comfyloom._machines.connect import connect
from comfyloom._records.dev_state import DevState, Health
from comfyloom._runcomfy.machine_url import machine_url
from comfyloom.errors import MachineStartFailed

_UP: Final = "comfyloom dev up starts one"
_RESTART: Final = "comfyloom dev restart starts another"


@attrs.frozen(kw_only=True)
class Refusal:
    """Why the dev server is not used.

    Attributes:
        reason: Human-readable.
        advice: What would help, "" if nothing would.
        unexpected: Whether to warn: a dev server was expected.
    """

    reason: str
    advice: str = ""
    unexpected: bool = False


def borrow(record: DevRecord, version: str) -> BorrowedMachine | Refusal:
    """Return the dev server if it fits and is healthy, or why not. Waits for a start.

    Launching a machine would take as long as waiting for one that starts.

    Args:
        record: The dev server.
        version: The workflow version that it must have been launched with.

    Raises:
        LedgerError: The state file cannot be read.
        ApiError: The platform refuses for good.
        MachineTimeout: It was starting, and was not ready in time.
    """
    state = record.file.read()
    if (refusal := _unfit(record, state, version)) is not None:
        return refusal
    seen = check_health(state, record.api)
    server = seen.server
    if seen.has_ended:
        record.record_ended_if(state.server_id, server)
        return _ended(state, seen.reason)
    if seen.health is Health.STARTING:
        try:
            server = await_start(record, state)
        except MachineStartFailed as error:
            return _ended(state, error.status)
    elif server is None or seen.health is not Health.HEALTHY:
        rate = record.prices.rate(state.server_type)
        reason = f"the dev server {state.server_id} ({rate}) is {seen.health}: {seen.reason}"
        advice = _RESTART if seen.health is Health.UNREACHABLE else ""
        return Refusal(reason=reason, advice=advice, unexpected=True)
    api = record.api
    machine = BorrowedMachine(api, state.server_type, prices=record.prices)
    lease = account.lease_of(state, api, record.settings)
    lease.on_changed = record.record_seen  # a renewed lease changes what it may cost
    machine.take(server, connect(machine_url(server), api), lease)
    return machine


def _unfit(record: DevRecord, state: DevState, version: str) -> Refusal | None:
    if not state.is_there:
        return Refusal(reason="there is no dev server", advice=_UP)
    if not state.is_of(record.settings):
        return Refusal(reason="the dev server belongs to another account")
    if state.is_unanswered:
        return Refusal(reason="the launch of the dev server has no answer yet", advice=_UP)
    if state.workflow_version != version:
        reason = "the dev server was launched with another workflow version"
        return Refusal(reason=reason, advice=_RESTART)
    server_type = record.settings.asked_server_type
    if server_type not in (None, state.server_type):
        reason = f"the dev server is a {state.server_type} machine, not {server_type}"
        return Refusal(reason=reason, advice=_RESTART)
    return None


def _ended(state: DevState, reason: str) -> Refusal:
    reason = f"the dev server {state.server_id} has ended ({reason})"
    return Refusal(reason=reason, advice=_UP, unexpected=True)
