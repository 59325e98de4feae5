"""Using the dev server in a session instead of launching a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._dev import account
from comfyloom._dev.health import check_health
from comfyloom._dev.record import DevRecord
from comfyloom._dev.reuse import await_start
from comfyloom._machines.borrowed import BorrowedMachine
from comfyloom._machines.connect import connect
from comfyloom._machines.starting import SILENT
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


def borrow(
    record: DevRecord,
    why_unfit: Callable[[str, ComfyUI | None], str],
    is_wanted: Callable[[], bool],
) -> BorrowedMachine | Refusal:
    """Return the dev server if it fits and is healthy, or why not. Waits for a start.

    Launching a machine would take as long as waiting for one that starts.

    Args:
        record: The dev server.
        why_unfit: Says why a workflow version is not suitable, "" if it is; without a ComfyUI, as
            far as that can be said without one.
        is_wanted: Whether to go on waiting.

    Raises:
        LedgerError: The state file cannot be read.
        ApiError: The platform refuses for good.
        MachineTimeout: It was starting, and was not ready in time.
    """
    state = record.file.read()
    if (refusal := _unfit(record, state, why_unfit)) is not None:
        return refusal
    seen = check_health(state, record.api)
    server = seen.server
    if seen.has_ended:
        record.record_ended_if(state.server_id, server)
        return _ended(state, seen.reason)
    if seen.health is Health.STARTING:
        try:
            server = await_start(record, state, is_wanted)
        except MachineStartFailed as error:
            if error.status == SILENT:
                return _silent(record, state, Health.UNREACHABLE, str(error))
            return _ended(state, error.status)
    elif server is None or seen.health is not Health.HEALTHY:
        return _silent(record, state, seen.health, seen.reason)
    api = record.api
    comfyui = connect(machine_url(server), api)
    if reason := why_unfit(state.workflow_version, comfyui):
        comfyui.close()
        return Refusal(reason=reason, advice=_RESTART, unexpected=True)
    machine = BorrowedMachine(api, state.server_type, prices=record.prices)
    lease = account.lease_of(state, api, record.settings)
    lease.on_changed = record.record_seen  # a renewed lease changes what it may cost
    machine.take(server, comfyui, lease)
    return machine


def _unfit(
    record: DevRecord, state: DevState, why_unfit: Callable[[str, ComfyUI | None], str]
) -> Refusal | None:
    if not state.is_there:
        return Refusal(reason="there is no dev server", advice=_UP)
    if not state.is_of(record.settings):
        return Refusal(reason="the dev server belongs to another account")
    if state.is_unanswered:
        return Refusal(reason="the launch of the dev server has no answer yet", advice=_UP)
    if reason := why_unfit(state.workflow_version, None):
        return Refusal(reason=reason, advice=_RESTART)
    asked = record.settings.asked_server_type
    if asked is not None and state.server_type not in asked:
        reason = f"the dev server is a {state.server_type} machine, not {' or '.join(asked)}"
        return Refusal(reason=reason, advice=_RESTART)
    return None


def _silent(record: DevRecord, state: DevState, health: Health, reason: str) -> Refusal:
    rate = record.prices.rate(state.server_type)
    reason = f"the dev server {state.server_id} ({rate}) is {health}: {reason}"
    advice = _RESTART if health is Health.UNREACHABLE else ""
    return Refusal(reason=reason, advice=advice, unexpected=True)


def _ended(state: DevState, reason: str) -> Refusal:
    reason = f"the dev server {state.server_id} has ended ({reason})"
    return Refusal(reason=reason, advice=_UP, unexpected=True)
