"""Using the dev server that is already running, as `up` does."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from comfyloom._dev import account
from comfyloom._dev.health import check_health
from comfyloom._dev.launch import SHORTEST_S, LaunchRequest, once_ready, version_of
from comfyloom._dev.record import DevRecord
from comfyloom._machines.starting import SILENT, Starting
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import DevState, Health
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.models import Server
from comfyloom.errors import MachineError, MachineStartFailed


def fitting(record: DevRecord, state: DevState, request: LaunchRequest) -> DevState:
    """Return the state of a running machine, with the requested times.

    Raises:
        MachineError: It is not what was requested.
    """
    asked = request.server_type or record.settings.asked_server_type
    version = version_of(record, request.workflow)
    other = ""
    if asked and state.server_type not in asked:
        other = f"is a {state.server_type} machine, not {' or '.join(asked)}"
    elif version and version != state.workflow_version:
        other = f"was launched with workflow version {state.workflow_version}, not {version}"
    if other:
        other += ": comfyloom dev restart starts another"
    elif _is_being_stopped(record, state):
        other = "is being stopped: run comfyloom dev down, then comfyloom dev up"
    if other:
        text = f"the dev server {state.server_id} {other}"
        raise MachineError(text, server_id=state.server_id, status=state.status)
    return _timed(record, state, request)


def await_running(record: DevRecord, state: DevState) -> None:
    """Wait for a machine that another process started.

    Raises:
        MachineError: It did not become ready, or does not answer.
    """
    seen = check_health(state, record.api)
    server = seen.server
    if seen.health is Health.STARTING:
        server = await_start(record, state)
    elif seen.health is not Health.HEALTHY:
        rate = record.prices.rate(state.server_type)
        raise MachineError(
            f"the dev server {state.server_id} ({rate}) is {seen.health}: {seen.reason}. It is "
            "left unchanged: see comfyloom dev status, or run comfyloom dev restart",
            server_id=state.server_id,
            status=server.current_status if server else "",
        )
    if server is not None and server.estimated_duration == state.launched_for:
        # The process that launched it was killed before it set the lease.
        lease = account.lease_of(state, record.api, record.settings)
        lease.note(server)
        lease.settle()


def await_start(
    record: DevRecord, state: DevState, is_wanted: Callable[[], bool] = lambda: True
) -> Server:
    """Wait for a machine that is starting, record how that ended, and return it.

    Args:
        record: The dev server.
        state: Its state.
        is_wanted: Whether to go on waiting.

    Raises:
        MachineStartFailed: It ended instead, its ComfyUI does not answer, or it is not wanted.
        MachineTimeout: It was not ready in time.
    """
    api = record.api
    starting = Starting(
        api=api,
        server_id=state.server_id,
        report=record.report,
        grace_s=record.settings.ready_grace_s,
        on_seen=once_ready(record.record_seen),
        is_wanted=is_wanted,
        begun=api.clock.monotonic() - max(0.0, api.now() - (state.launch_time or api.now())),
    )
    try:
        server, comfyui = starting.wait()
    except MachineStartFailed as failed:
        if failed.status != SILENT and is_wanted():
            record.record_ended_if(state.server_id)
        raise
    comfyui.close()
    return server


def _is_being_stopped(record: DevRecord, state: DevState) -> bool:
    """Return whether a stop was requested but not confirmed: a guard may be stopping it."""
    with best_effort():
        row = records_of(record.settings, record.api.timeouts).find(state.server_id)
        return row is not None and row.stopping_at is not None
    return False


def _timed(record: DevRecord, state: DevState, request: LaunchRequest) -> DevState:
    """Apply the requested times, and return the state."""
    if request.duration_s is None and request.idle_timeout_s is None:
        return state
    timed = attrs.evolve(
        state,
        idle_timeout=request.idle_timeout_s or state.idle_timeout,
        max_duration=request.duration_s or state.max_duration,
    )
    if state.ready_time:
        lease = account.lease_of(timed, record.api, record.settings)
        lease.note(record.api.get_server(state.server_id))
        if lease.longest_s < lease.elapsed_s + SHORTEST_S:
            text = (
                f"the dev server {state.server_id} has been running for {lease.elapsed_s:.0f} "
                "s: comfyloom dev down stops it"
            )
            raise MachineError(text, server_id=state.server_id, status=state.status)
        lease.settle()
    record.file.write(timed)
    return timed
