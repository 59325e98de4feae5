"""Changes to the dev server, made while its state file is locked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._core.redact import log
from comfyloom._dev import account
from comfyloom._dev.health import HealthCheck, check_health, prompts_of
from comfyloom._dev.orphaned_launch import stop_orphaned_launch
from comfyloom._machines.launch import LONGEST_LEASE_S
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._machines.reaper import Reaper
from comfyloom._machines.stopping import Stopping
from comfyloom._money.prices import PriceList
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import LAUNCHING, DevState, Health
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.locations import records_of
from comfyloom._records.tracker import MachineTracker
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom._runcomfy.versions import find_version
from comfyloom._workflow.workflow import Workflow
from comfyloom.errors import (
    ConfigError,
    Forbidden,
    LedgerError,
    MachineBusy,
    MachineError,
    MachineLeak,
    Unauthorized,
)
from comfyloom.settings import Settings, is_word

SHORTEST_S: Final = 60.0
"""A shorter lease could end between two requests."""
LONGEST_S: Final = 30 * 24 * 3600.0

WorkflowLike: TypeAlias = "type[Workflow[Any]] | Workflow[Any] | str | None"
"""A workflow class or object, or the name of its file without the suffix."""


@attrs.frozen(kw_only=True)
class LaunchRequest:
    """What the caller requested; None for no preference."""

    workflow: WorkflowLike
    server_type: str | None
    duration_s: float | None
    idle_timeout_s: float | None

    def __attrs_post_init__(self) -> None:
        times = {"duration_s": self.duration_s, "idle_timeout_s": self.idle_timeout_s}
        problems = [
            f"{name} must be {SHORTEST_S:g} to {LONGEST_S:g} s"
            for name, value in times.items()
            if value is not None and not SHORTEST_S <= value <= LONGEST_S
        ]
        if self.server_type is not None and (problem := is_word(self.server_type)) is not None:
            problems.append(f"server_type: {problem}")
        if problems:
            raise ConfigError(problems=problems)


@attrs.frozen
class Launched:
    """A machine that was just launched, and its recorded state."""

    machine: LaunchedMachine
    state: DevState


@attrs.frozen(kw_only=True)
class DevServerManager:
    """Keeps the state file consistent with the platform.

    Args:
        file: The state file; locked by the caller.
        say: Called with progress messages.
    """

    api: ServerApi
    settings: Settings
    file: StateFile
    prices: PriceList
    say: Callable[[str], object]

    def known(self) -> DevState:
        """Return the state; the machine of an interrupted launch is stopped first.

        Raises:
            MachineError: The machine belongs to another account.
            MachineLeak: It is unclear which machine is ours.
        """
        state = self.file.read()
        if not state.is_there:
            return state
        if account.is_gone_with_its_emulator(state):
            return self.settle(state)
        account.check_owner(state, self.settings, self.file.path)
        if not state.is_open:
            return state
        path = str(self.file.path.absolute())
        stop_orphaned_launch(state, path, Reaper.of(self.settings, self.api), self.say)
        return self.settle(state)

    def current(self) -> DevState:
        """Return the state like `known`, after a health check."""
        state = self.known()
        if not state.server_id:
            return state
        return self.keep(state, check_health(state, self.api, probes=1))

    def keep(self, state: DevState, seen: HealthCheck) -> DevState:
        """Record a health check, and return the state."""
        now = self.api.now()
        if seen.has_ended:
            self.say(f"the dev server {state.server_id} has ended ({seen.reason})")
            return self.settle(state, seen.server)
        if seen.server is not None:
            state = state.seen(seen.server, now, self.prices)
            state = attrs.evolve(state, health_status=seen.health)
        return self._remember(attrs.evolve(state, last_health_check=now))

    def settle(
        self,
        state: DevState,
        last: Server | None = None,
        *,
        is_watched: bool = False,
        by: str = "ended by itself",
    ) -> DevState:
        """Record that the machine has ended.

        Args:
            state: Its state.
            last: The platform's last description of it, None if there was none.
            is_watched: Whether it was observed until its end: if it was not ready, it was free.
            by: What confirmed the end.
        """
        # One that was last seen starting may have been ready, and billed, before it ended.
        is_known = is_watched or not state.server_id or last is not None
        ended = state.ended(self.api.now(), self.prices, last, is_cost_known=is_known)
        server_id = last.server_id if last is not None else state.server_id
        if server_id:
            with best_effort():
                records = records_of(self.settings)
                if (row := records.find(server_id)) is not None:
                    records.record_ended(row.key, self.api.now(), by)
        return self._remember(ended)

    def note(self, server: Server) -> None:
        """Record the platform's description of the machine, if the file is about it."""
        with self.file.locked(required=False):
            state = self.file.read()
            if state.server_id == server.server_id:
                self._remember(state.seen(server, self.api.now(), self.prices))

    def fitting(self, state: DevState, request: LaunchRequest) -> DevState:
        """Return the state of a running machine, with the requested times.

        Raises:
            MachineError: It is not what was requested.
        """
        asked = request.server_type or self.settings.asked_server_type
        version = self._version(request.workflow)
        other = ""
        if asked and asked != state.server_type:
            other = f"is a {state.server_type} machine, not {asked}"
        elif version and version != state.workflow_version:
            other = f"was launched with workflow version {state.workflow_version}, not {version}"
        if other:
            other += ": comfyloom dev restart starts another"
        elif self._is_being_stopped(state):
            other = "is being stopped: comfyloom dev down, then up"
        if other:
            text = f"the dev server {state.server_id} {other}"
            raise MachineError(text, server_id=state.server_id, status=state.status)
        return self._timed(state, request)

    def launch(self, state: DevState, request: LaunchRequest) -> Launched:
        """Launch a machine, recorded in the file before the platform gets the request.

        Raises:
            ConfigError: It is unclear which workflow version to launch.
            MachineLeak: The launch got no answer, and it is unclear which machine is ours.
            ComfyloomError: There is no machine.
        """
        intent = self._intent(state, request)
        tracker = self._tracker(intent)
        machine = LaunchedMachine(
            self.api,
            intent.server_type,
            prices=self.prices,
            longest_s=intent.max_duration,
            lease_s=intent.idle_timeout,
            max_machines=self.settings.max_machines,
            tracker=tracker,
            record_s=self.api.timeouts.start_s + max(intent.max_duration, LONGEST_LEASE_S),
        )
        self.say(f"launching a {machine.server_type} machine")
        written = [intent]

        def intended(seconds: int, before: frozenset[str] | None) -> None:
            self._report_other_machines(before)
            known = None if before is None else tuple(sorted(before))
            dated = attrs.evolve(intent, launch_time=self.api.now(), launched_for=seconds)
            written.append(attrs.evolve(dated, known_servers=known))
            self.file.write(written[-1])

        def launched(server: Server) -> None:
            written.append(written[-1].seen(server, self.api.now(), self.prices))
            self.file.write(written[-1])
            tracker.release_guard()  # from now on the file keeps track of it

        try:
            machine.launch(intent.workflow_version, on_intent=intended, on_launched=launched)
        except MachineLeak:
            raise  # it stays recorded until it is clear which one it is
        except BaseException:
            machine.stop()
            self._remember(written[-1].ended(self.api.now(), self.prices))
            raise
        return Launched(machine, written[-1])

    def claim(self, launched: Launched) -> None:
        """Ensure that the file is about our machine; a deleted file is written again.

        Raises:
            MachineError: It is now about another machine; ours is stopped.
        """
        state = self.file.read()
        ours = launched.machine.server_id
        if state.server_id == ours:
            return
        if not state.is_there:
            self.file.write(launched.state)
            return
        launched.machine.stop()
        text = f"{self.file.path} now names machine {state.server_id}; {ours} was stopped again"
        raise MachineError(text, server_id=ours)

    def stop(self, state: DevState, *, force: bool) -> None:
        """Stop the machine and wait for the confirmation.

        Raises:
            MachineBusy: A prompt is running or pending.
            MachineLeak: The platform did not confirm it.
            Unauthorized, Forbidden: The account may not stop it.
        """
        if not force:
            self._refuse_if_busy(state)
        tracker = self._tracker(state)
        tracker.adopt(state.server_id, seen=state.was_seen)
        tracker.record_stopping()
        # Stop without asking the platform first: a slow answer would cost money.
        stopping = Stopping(
            api=self.api,
            server_id=state.server_id,
            server_type=state.server_type,
            prices=self.prices,
            was_seen=state.was_seen,
            launched_at=self.api.clock.monotonic() - (self.api.now() - state.launch_time),
            retry_auth_errors=False,
        )
        try:
            stopped = stopping.confirm()
        except (Unauthorized, Forbidden):
            tracker.clear_stopping()  # it keeps running as the dev server
            raise
        self.settle(state, stopped.server, by=stopped.by)
        tracker.release_guard()
        self.say(f"machine {state.server_id} is stopped")

    def _is_being_stopped(self, state: DevState) -> bool:
        """Return whether a stop was requested but not confirmed: a guard may be stopping it."""
        with best_effort():
            row = records_of(self.settings).find(state.server_id)
            return row is not None and row.stopping_at is not None
        return False

    def _tracker(self, state: DevState) -> MachineTracker:
        return MachineTracker(
            api=self.api,
            settings=self.settings,
            purpose="dev",
            server_type=state.server_type,
            workflow_version=state.workflow_version,
            state_file=self.file.path.absolute(),
        )

    def _refuse_if_busy(self, state: DevState) -> None:
        """Raise `MachineBusy` if a prompt is running or pending, as far as ComfyUI answers."""
        seen = prompts_of(state, self.api)
        if seen.running or seen.pending:
            counts = f"{len(seen.running)} running, {len(seen.pending)} waiting"
            text = f"the dev server {state.server_id} has prompts ({counts}): --force stops it"
            raise MachineBusy(text, server_id=state.server_id, status=state.status)
        if seen.health is Health.UNREACHABLE:
            log.warning(
                "its ComfyUI does not answer (%s); stopping the dev server anyway", seen.reason
            )

    def _remember(self, state: DevState) -> DevState:
        """Record the state; an error must not prevent a stop."""
        try:
            self.file.write(state)
        except LedgerError as error:
            name = f" of machine {state.server_id}" if state.server_id else ""
            log.error("%s; the state%s is not recorded", error, name)
        return state

    def _report_other_machines(self, before: frozenset[str] | None) -> None:
        """Report machines launched from here that the file does not name."""
        if before and (ours := sorted(records_of(self.settings).list_ids() & before)):
            self.say(
                f"launched from here and still running: {', '.join(ours)} (comfyloom machines)"
            )

    def _timed(self, state: DevState, request: LaunchRequest) -> DevState:
        """Apply the requested times, and return the state."""
        if request.duration_s is None and request.idle_timeout_s is None:
            return state
        timed = attrs.evolve(
            state,
            idle_timeout=request.idle_timeout_s or state.idle_timeout,
            max_duration=request.duration_s or state.max_duration,
        )
        if state.ready_time:
            lease = account.lease_of(timed, self.api, self.settings)
            lease.note(self.api.get_server(state.server_id))
            if lease.longest_s < lease.elapsed_s + SHORTEST_S:
                text = (
                    f"the dev server {state.server_id} has been running for {lease.elapsed_s:.0f} "
                    "s: comfyloom dev down stops it"
                )
                raise MachineError(text, server_id=state.server_id, status=state.status)
            lease.settle()
        self.file.write(timed)
        return timed

    def _intent(self, state: DevState, request: LaunchRequest) -> DevState:
        settings = self.settings
        version = self._version(request.workflow)
        if version is None:
            text = "which workflow? Name one, or set RUNCOMFY_WORKFLOW_VERSION_ID"
            raise ConfigError(text, problems=[text])
        server_type = request.server_type or settings.server_type
        return attrs.evolve(
            state,
            status=LAUNCHING,
            health_status="launching",
            workflow_version=version,
            user_id=settings.user_id,
            api_base_url=settings.api_base_url,
            is_emulated=account.is_emulator(settings.api_base_url),
            server_type=server_type,
            idle_timeout=request.idle_timeout_s or settings.dev_idle_timeout_s,
            max_duration=request.duration_s or settings.dev_max_duration_s,
            session_cost=self.prices.cost(server_type, 0.0),
        )

    def _version(self, workflow: WorkflowLike) -> str | None:
        if self.settings.workflow_version_id is not None or workflow is None:
            return self.settings.workflow_version_id
        name = workflow if isinstance(workflow, str) else workflow.__workflow__.name
        return find_version(self.api, name)
