"""Stopping the dev server."""

from __future__ import annotations

from comfyloom._core.redact import log
from comfyloom._dev.health import prompts_of
from comfyloom._dev.record import DevRecord
from comfyloom._machines.stopping import Stopping
from comfyloom._records.dev_state import DevState, Health
from comfyloom.errors import Forbidden, MachineBusy, Unauthorized


def stop(record: DevRecord, state: DevState, *, force: bool) -> None:
    """Stop the machine and wait for the confirmation.

    Raises:
        MachineBusy: A prompt is running or pending.
        MachineLeak: The platform did not confirm it.
        Unauthorized, Forbidden: The account may not stop it.
    """
    if not force:
        _refuse_if_busy(record, state)
    tracker = record.tracker(state)
    tracker.adopt(state.server_id, seen=state.was_seen)
    tracker.record_stopping()
    # Stop without asking the platform first: a slow answer would cost money.
    stopping = Stopping(
        api=record.api,
        server_id=state.server_id,
        server_type=state.server_type,
        prices=record.prices,
        was_seen=state.was_seen,
        launched_at=record.api.clock.monotonic() - (record.api.now() - state.launch_time),
        retry_auth_errors=False,
    )
    try:
        stopped = stopping.confirm()
    except (Unauthorized, Forbidden):
        tracker.clear_stopping()  # it keeps running as the dev server
        raise
    record.record_ended(state, stopped.server, by=stopped.by)
    tracker.release_guard()
    record.say(f"machine {state.server_id} is stopped")


def _refuse_if_busy(record: DevRecord, state: DevState) -> None:
    """Raise `MachineBusy` if a prompt is running or pending, as far as ComfyUI answers."""
    seen = prompts_of(state, record.api)
    if seen.running or seen.pending:
        counts = f"{len(seen.running)} running, {len(seen.pending)} waiting"
        text = f"the dev server {state.server_id} has prompts ({counts}): --force stops it"
        raise MachineBusy(text, server_id=state.server_id, status=state.status)
    if seen.health is Health.UNREACHABLE:
        log.warning("its ComfyUI does not answer (%s); stopping the dev server anyway", seen.reason)
