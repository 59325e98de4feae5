"""Launching the dev server, recorded before the platform gets the request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._core.redact import log
from comfyloom._dev import account
from comfyloom._dev.record import DevRecord
from comfyloom._machines.launch import LONGEST_LEASE_S, announcement, launch_first
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._records.dev_state import LAUNCHING, DevState
from comfyloom._records.locations import records_of
from comfyloom._runcomfy.models import Server
from comfyloom._runcomfy.versions import find_version
from comfyloom._workflow.workflow import Workflow
from comfyloom.errors import ConfigError, MachineError, MachineLeak
from comfyloom.settings import LONGEST_DURATION_S, ServerTypes, are_words

SHORTEST_S: Final = 60.0
"""A shorter lease could end between two requests."""

WorkflowLike: TypeAlias = "type[Workflow[Any]] | Workflow[Any] | str | None"
"""A workflow class or object, or the name of its file without the suffix."""


@attrs.frozen(kw_only=True)
class LaunchRequest:
    """What the caller requested; None for no preference."""

    workflow: WorkflowLike
    server_type: ServerTypes | None
    duration_s: float | None
    idle_timeout_s: float | None

    def __attrs_post_init__(self) -> None:
        times = {"duration_s": self.duration_s, "idle_timeout_s": self.idle_timeout_s}
        problems = [
            f"{name} must be {SHORTEST_S:g} to {LONGEST_DURATION_S:g} s"
            for name, value in times.items()
            if value is not None and not SHORTEST_S <= value <= LONGEST_DURATION_S
        ]
        if self.server_type is not None and (problem := are_words(self.server_type)) is not None:
            problems.append(f"server_type: {problem}")
        if problems:
            raise ConfigError(problems=problems)


@attrs.frozen
class Launched:
    """A machine that was just launched, and its recorded state."""

    machine: LaunchedMachine
    state: DevState


def launch(record: DevRecord, state: DevState, request: LaunchRequest) -> Launched:
    """Launch a machine, recorded in the file before the platform gets the request.

    Raises:
        ConfigError: It is unclear which workflow version to launch.
        MachineLeak: The launch got no answer, and it is unclear which machine is ours.
        ComfyloomError: There is no machine.
    """
    intent = _intent(record, state, request)
    server_types = request.server_type or record.settings.server_type
    return launch_first(server_types, partial(_launch, record, intent))


def _launch(record: DevRecord, wanted: DevState, server_type: str) -> Launched:
    cost = record.prices.cost(server_type, 0.0)
    intent = attrs.evolve(wanted, server_type=server_type, session_cost=cost)
    tracker = record.tracker(intent)
    machine = LaunchedMachine(
        record.api,
        intent.server_type,
        prices=record.prices,
        longest_s=intent.max_duration,
        lease_s=intent.idle_timeout,
        max_machines=record.settings.max_machines,
        ready_grace_s=record.settings.ready_grace_s,
        tracker=tracker,
        valid_s=record.api.timeouts.start_s + max(intent.max_duration, LONGEST_LEASE_S),
    )
    record.say(announcement(server_type, record.settings))
    written = [intent]

    def intended(seconds: int, before: frozenset[str] | None) -> None:
        _report_other_machines(record, before)
        known = None if before is None else tuple(sorted(before))
        dated = attrs.evolve(intent, launch_time=record.api.now(), launched_for=seconds)
        written.append(attrs.evolve(dated, known_servers=known))
        record.file.write(written[-1])

    def launched(server: Server) -> None:
        written.append(written[-1].seen(server, record.api.now(), record.prices))
        record.file.write(written[-1])
        tracker.release_guard()  # from now on the file keeps track of it

    try:
        machine.launch(intent.workflow_version, on_intent=intended, on_launched=launched)
    except MachineLeak:
        raise  # it stays recorded until it is clear which one it is
    except BaseException:
        machine.stop()
        record.write(written[-1].ended(record.api.now(), record.prices))
        raise
    return Launched(machine, written[-1])


def await_launched(record: DevRecord, launched: Launched) -> None:
    """Wait for our own machine, and ensure that it is recorded; else stop it and record its end."""
    machine = launched.machine
    try:
        machine.await_ready(record.report, on_seen=once_ready(record.record_seen))
        with record.locked():
            _claim(record, launched)
    except BaseException:
        machine.stop()
        record.record_ended_if(machine.server_id, is_watched=True)
        log.warning("%s", machine.summary)
        raise
    finally:
        machine.disconnect()


def once_ready(note: Callable[[Server], object]) -> Callable[[Server], None]:
    """Return a function that calls `note` once, when the machine is ready."""
    noted: list[Server] = []

    def once(server: Server) -> None:
        if server.service_ready_at is not None and not noted:
            noted.append(server)
            note(server)

    return once


def version_of(record: DevRecord, workflow: WorkflowLike) -> str | None:
    """Return the workflow version to launch, None if neither settings nor workflow name one."""
    if record.settings.workflow_version_id is not None or workflow is None:
        return record.settings.workflow_version_id
    name = workflow if isinstance(workflow, str) else workflow.__workflow__.saved_name
    return find_version(record.api, name)


def _claim(record: DevRecord, launched: Launched) -> None:
    """Ensure that the file is about our machine; a deleted file is written again.

    Raises:
        MachineError: It is now about another machine; ours is stopped.
    """
    state = record.file.read()
    ours = launched.machine.server_id
    if state.server_id == ours:
        return
    if not state.is_there:
        record.file.write(launched.state)
        return
    launched.machine.stop()
    text = f"{record.file.path} now names machine {state.server_id}, so {ours} was stopped"
    raise MachineError(text, server_id=ours)


def _report_other_machines(record: DevRecord, before: frozenset[str] | None) -> None:
    """Report machines launched from here that the file does not name."""
    if not before:
        return
    if ours := sorted(records_of(record.settings, record.api.timeouts).list_ids() & before):
        names = ", ".join(ours)
        record.say(f"launched from here and still running: {names} (see comfyloom machines list)")


def _intent(record: DevRecord, state: DevState, request: LaunchRequest) -> DevState:
    settings = record.settings
    version = version_of(record, request.workflow)
    if version is None:
        text = "which workflow? Name one, or set RUNCOMFY_WORKFLOW_VERSION_ID"
        raise ConfigError(text, problems=[text])
    return attrs.evolve(
        state,
        status=LAUNCHING,
        health_status="launching",
        workflow_version=version,
        user_id=settings.user_id,
        api_base_url=settings.api_base_url,
        is_emulated=account.is_emulator(settings.api_base_url, record.api.timeouts),
        idle_timeout=request.idle_timeout_s or settings.dev_idle_timeout_s,
        max_duration=request.duration_s or settings.dev_max_duration_s,
    )
