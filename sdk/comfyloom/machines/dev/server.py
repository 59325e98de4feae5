"""The dev server: a machine that outlives the processes that use it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._clock import SYSTEM_CLOCK, Clock
from comfyloom._redact import log
from comfyloom._shield import orderly_exit, shielded
from comfyloom.comfyui.client import ComfyUI
from comfyloom.errors import (
    ComfyloomError,
    ConfigError,
    MachineBusy,
    MachineError,
    MachineLeak,
    MachineStartFailed,
)
from comfyloom.machines.dev import account
from comfyloom.machines.dev.health import DevStatus, Look, look
from comfyloom.machines.dev.state import LAUNCHING, DevState, StateFile
from comfyloom.machines.dev.watch import Watched, follow
from comfyloom.machines.launch import SEARCH_FOR_S, Launch
from comfyloom.machines.own import OwnMachine
from comfyloom.machines.register import Register
from comfyloom.machines.starting import Starting
from comfyloom.machines.stopping import Stopping
from comfyloom.money import PriceList
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.runcomfy import Server, ServerApi, find_version
from comfyloom.settings import Settings
from comfyloom.workflow import Workflow

WorkflowLike: TypeAlias = "type[Workflow[Any]] | Workflow[Any] | str | None"
"""A workflow class or object, or the name of its file without the suffix."""

SHORTEST_S: Final = 60.0
"""A shorter lease could end between two requests."""


@attrs.frozen(kw_only=True)
class _Wish:
    """What somebody asked for; None where anything will do."""

    workflow: WorkflowLike
    server_type: str | None
    duration_s: float | None
    idle_timeout_s: float | None

    def __attrs_post_init__(self) -> None:
        times = {"duration_s": self.duration_s, "idle_timeout_s": self.idle_timeout_s}
        short = [name for name, value in times.items() if value is not None and value < SHORTEST_S]
        if short:
            text = f"{' and '.join(short)} must be {SHORTEST_S:g} s or more"
            raise ConfigError(text, problems=[text])


class DevServer:
    """A machine that is started once, used by many sessions, and stopped by hand.

        DevServer().up(FluxMeshWorkflow)     # minutes
        with RunComfySession() as session:   # at once: it uses the dev server
            ...
        DevServer().down()

    It is remembered in a file of the project (`Settings.state_file`), so every process of the
    project finds it. Without use it ends by itself after its idle timeout, and in any case after
    its longest duration. A machine that does not answer is never forgotten: only the platform's
    word that it is gone removes it. Two processes that start it at once start one machine.

    Args:
        settings: The account; by default gathered by `Settings.load`.
        on_progress: Called with how a start goes.
        clock: The time; another one than the real for tests.

    Raises:
        ConfigError: Settings are missing or wrong; it lists them all.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        on_progress: ProgressCallback | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings or Settings.load()
        self._report: ProgressCallback = on_progress or (lambda _: None)
        self._clock = clock
        self._file = StateFile(self._settings.state_file)
        self._prices = PriceList(plan=self._settings.plan, overrides=self._settings.prices)
        self._register = Register.of(self._settings.api_base_url, self._settings.user_id)

    def __repr__(self) -> str:
        return f"DevServer({str(self._settings.state_file)!r})"

    def up(
        self,
        workflow: WorkflowLike = None,
        *,
        server_type: str | None = None,
        duration_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> DevStatus:
        """Start the dev server, unless it runs, and return when its ComfyUI answers.

        Args:
            workflow: What it is for: the name tells which version to launch when the settings
                have none.
            server_type: The kind of machine; by default that of the settings.
            duration_s: Seconds that it may run at most, from Ready; by default
                `Settings.dev_max_duration_s`.
            idle_timeout_s: Seconds without use after which it ends; by default
                `Settings.dev_idle_timeout_s`.

        Raises:
            MachineError: It was not ready, and is stopped again; or it runs already and is
                another one than was asked for, or does not answer: then it is left as it is.
            LedgerError: The file that remembers it cannot be read or written.
            ConfigError: Which workflow version to launch cannot be told, or a time is too short.
            ApiError: The platform refuses the launch.
        """
        wish = _Wish(
            workflow=workflow,
            server_type=server_type,
            duration_s=duration_s,
            idle_timeout_s=idle_timeout_s,
        )
        with self._api() as api, orderly_exit():
            with self._file.locked(self._say_it_waits):
                state = self._current(api)
                machine = None if state.is_there else self._launch(api, state, wish)
                if machine is None:
                    state = self._fitting(api, state, wish)
            if machine is not None:
                self._await_launched(machine)
            else:
                self._await_running(api, state)
            return self._look(api)

    def status(self) -> DevStatus:
        """Return how the dev server is; the file remembers it as well.

        Raises:
            LedgerError: The file that remembers it cannot be read.
            ApiError: The platform refuses to tell for good.
        """
        with self._api() as api:
            return self._look(api)

    def down(self, *, force: bool = False) -> DevStatus:
        """Stop the dev server and see it confirmed; without one, do nothing.

        Args:
            force: Stop it although a prompt runs or waits.

        Raises:
            MachineBusy: A prompt runs or waits.
            MachineLeak: The platform did not confirm it; it is not forgotten.
            MachineError: It belongs to another account.
            LedgerError: The file that remembers it cannot be read or written.
        """
        with self._api() as api, self._file.locked(self._say_it_waits):
            state = self._current(api)
            if state.is_there:
                shielded(
                    partial(self._stop, api, state, force),
                    waiting=lambda: log.warning("stopping the dev server first"),
                )
            return self._told(self._file.read(), Look(health="stopped"), api)

    def restart(
        self,
        workflow: WorkflowLike = None,
        *,
        force: bool = False,
        server_type: str | None = None,
        duration_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> DevStatus:
        """Stop the dev server and start another; what is not given is as it was.

        Raises:
            MachineBusy: A prompt runs or waits; `force` restarts it all the same.
            ComfyloomError: As `down` and `up`.
        """
        before = self._file.read()
        self.down(force=force)
        successor = self
        if workflow is None and before.workflow_version:
            version = self._settings.workflow_version_id or before.workflow_version
            settings = attrs.evolve(self._settings, workflow_version_id=version)
            successor = DevServer(settings, on_progress=self._report, clock=self._clock)
        return successor.up(
            workflow,
            server_type=server_type or before.server_type or None,
            duration_s=duration_s or before.max_duration or None,
            idle_timeout_s=idle_timeout_s or before.idle_timeout or None,
        )

    @property
    def is_remembered(self) -> bool:
        """Whether the file names a machine, or a launch; how that is, `status` tells.

        Raises:
            LedgerError: The file that remembers it cannot be read.
        """
        return self._file.read().is_there

    def watch(self) -> Generator[Watched]:
        """Yield what there is to see about once a second, until there is no dev server any more.

        While prompts run or wait, whoever submitted them, the lease is renewed.

        Raises:
            LedgerError: The file that remembers it cannot be read.
            ApiError: The platform refuses to tell for good.
        """
        with self._api() as api:
            state = self._file.read()
            lease = account.lease_of(state, api)

            def see() -> DevStatus:
                status = self._look(api)
                now = self._file.read()
                lease.ends_at, lease.server_id = now.stopping_time, now.server_id
                lease.ready_at = (
                    datetime.fromtimestamp(now.ready_time, UTC) if now.ready_time else None
                )
                return status

            def connect() -> ComfyUI:
                return ComfyUI(self._file.read().base_url, clock=self._clock)

            yield from follow(see, connect, lease.touch, self._clock)

    # --- the state, under the lock ---------------------------------------------------------------

    def _current(self, api: ServerApi) -> DevState:
        """Return the state as it is now: a lost launch is found, a machine that ended is settled.

        Raises:
            MachineError: The machine belongs to another account.
            MachineLeak: Which machine is ours cannot be told.
        """
        state = self._file.read()
        if not state.is_there:
            return state
        account.check_owner(state, self._settings, self._file.path)
        if account.is_gone_with_its_emulator(state):
            return self._settle(state, api)
        if state.is_open:
            return self._find(api, state)
        seen = look(state, api, probes=1)
        return self._keep(api, state, seen)

    def _keep(self, api: ServerApi, state: DevState, seen: Look) -> DevState:
        """Write down what a look showed, and return the state."""
        now = api.now()
        if seen.has_ended:
            self._say(f"the dev server {state.server_id} has ended ({seen.reason})")
            return self._settle(state, api)
        if seen.server is not None:
            state = state.seen(seen.server, now, self._prices)
        state = attrs.evolve(state, health_status=seen.health, last_health_check=now)
        self._file.write(state)
        return state

    def _settle(self, state: DevState, api: ServerApi) -> DevState:
        """Write down that the machine has ended."""
        ended = state.ended(api.now(), self._prices)
        self._file.write(ended)
        if state.server_id:
            self._register.discard(state.server_id)
        return ended

    def _find(self, api: ServerApi, state: DevState) -> DevState:
        """Find the machine of a launch that was interrupted before its answer was written down."""
        self._say("a launch was interrupted: looking for its machine")
        known = None if state.known_servers is None else frozenset(state.known_servers)
        launch = Launch(
            api=api,
            workflow_version_id=state.workflow_version,
            server_type=state.server_type,
            lease_s=state.launched_for,
            on_launched=lambda _: None,
            prices=self._prices,
        )
        age_s = api.now() - state.launch_time
        try:
            reason = ComfyloomError("the process that launched it is gone")
            server = launch.find(known, reason, max(0.0, SEARCH_FOR_S - age_s))
        except MachineStartFailed as error:
            self._say(f"there is none: {error}")
            return self._settle(state, api)
        self._register.add(server.server_id)
        found = state.seen(server, api.now(), self._prices)
        self._file.write(found)
        return found

    def _fitting(self, api: ServerApi, state: DevState, wish: _Wish) -> DevState:
        """Return the state of a machine that runs, with the times that were asked for.

        Raises:
            MachineError: It is another one than was asked for.
        """
        asked = wish.server_type or self._settings.asked_server_type
        version = self._version(api, wish.workflow)
        other = ""
        if asked and asked != state.server_type:
            other = f"is a {state.server_type} machine, not {asked}"
        elif version and version != state.workflow_version:
            other = f"was launched with workflow version {state.workflow_version}, not {version}"
        if other:
            text = f"the dev server {state.server_id} {other}: comfyloom dev restart starts another"
            raise MachineError(text, server_id=state.server_id, status=state.status)
        if wish.duration_s is None and wish.idle_timeout_s is None:
            return state
        timed = attrs.evolve(
            state,
            idle_timeout=wish.idle_timeout_s or state.idle_timeout,
            max_duration=wish.duration_s or state.max_duration,
        )
        if state.ready_time:
            lease = account.lease_of(timed, api)
            lease.note(api.get_server(state.server_id))
            lease.settle()
        self._file.write(timed)
        return timed

    def _launch(self, api: ServerApi, state: DevState, wish: _Wish) -> OwnMachine:
        """Launch a machine; the file knows of it before the platform does."""
        settings = self._settings
        version = self._version(api, wish.workflow)
        if version is None:
            text = "which workflow? Name one, or set RUNCOMFY_WORKFLOW_VERSION_ID"
            raise ConfigError(text, problems=[text])
        intent = attrs.evolve(
            state,
            status=LAUNCHING,
            health_status="launching",
            workflow_version=version,
            user_id=settings.user_id,
            api_base_url=settings.api_base_url,
            server_type=wish.server_type or settings.server_type,
            idle_timeout=wish.idle_timeout_s or settings.dev_idle_timeout_s,
            max_duration=wish.duration_s or settings.dev_max_duration_s,
            session_cost=self._prices.cost(wish.server_type or settings.server_type, 0.0),
        )
        machine = OwnMachine(
            api,
            intent.server_type,
            prices=self._prices,
            longest_s=intent.max_duration,
            lease_s=intent.idle_timeout,
            max_machines=settings.max_machines,
            register=self._register,
        )
        self._say(f"launching a {machine.server_type} machine")

        def intended(seconds: int, before: frozenset[str] | None) -> None:
            known = None if before is None else tuple(sorted(before))
            dated = attrs.evolve(intent, launch_time=api.now(), launched_for=seconds)
            self._file.write(attrs.evolve(dated, known_servers=known))

        def launched(server: Server) -> None:
            self._file.write(self._file.read().seen(server, api.now(), self._prices))

        try:
            machine.launch(version, intended=intended, launched=launched)
        except MachineLeak:
            raise  # which one it is must be found out: it stays written down
        except BaseException:
            machine.stop()
            self._settle(attrs.evolve(intent, server_id=machine.server_id), api)
            raise
        return machine

    def _stop(self, api: ServerApi, state: DevState, force: bool) -> None:
        seen = look(state, api)
        state = self._keep(api, state, seen)
        if not state.is_there:
            return
        if (seen.running or seen.pending) and not force:
            counts = f"{len(seen.running)} running, {len(seen.pending)} waiting"
            text = f"the dev server {state.server_id} has prompts ({counts}): --force stops it"
            raise MachineBusy(text, server_id=state.server_id, status=state.status)
        if seen.health == "unreachable":
            log.warning("its ComfyUI does not answer (%s); it is stopped all the same", seen.reason)
        Stopping(
            api=api,
            server_id=state.server_id,
            server_type=state.server_type,
            prices=self._prices,
            seen=seen.server is not None or bool(state.ready_time),
            launched_at=api.clock.monotonic() - (api.now() - state.launch_time),
        ).confirm()
        self._settle(state, api)

    # --- waiting and looking, without the lock ---------------------------------------------------

    def _await_launched(self, machine: OwnMachine) -> None:
        """Wait for our own machine; one that does not get ready is stopped and settled."""
        try:
            machine.await_ready(self._report)
        except BaseException:
            machine.stop()
            self._settle_if(machine.server_id, machine.api)
            raise
        finally:
            machine.disconnect()

    def _await_running(self, api: ServerApi, state: DevState) -> None:
        """Wait for a machine that somebody else started."""
        seen = look(state, api)
        if seen.health == "starting":
            try:
                starting = Starting(api=api, server_id=state.server_id, report=self._report)
                _, comfyui = starting.wait()
                comfyui.close()
            except MachineStartFailed:
                self._settle_if(state.server_id, api)
                raise
        elif seen.health != "healthy":
            rate = self._prices.rate(state.server_type)
            raise MachineError(
                f"the dev server {state.server_id} ({rate}) is {seen.health}: {seen.reason}. It is "
                "left as it is: comfyloom dev status, comfyloom dev restart",
                server_id=state.server_id,
                status=seen.server.current_status if seen.server else "",
            )

    def _look(self, api: ServerApi) -> DevStatus:
        state = self._file.read()
        if not state.is_there:
            return self._told(state, Look(health="stopped"), api)
        if not state.is_of(self._settings):
            return self._told(state, Look(reason="it belongs to another account"), api)
        if state.is_open:
            reason = "its launch has no answer yet; if nobody waits for it, dev up finds it again"
            return self._told(state, Look(health="launching", reason=reason), api)
        seen = look(state, api)
        try:
            with self._file.locked(longest_s=1.0):
                current = self._file.read()
                if current.server_id == state.server_id:
                    state = self._keep(api, current, seen)
        except MachineBusy:  # somebody changes it just now: what was seen is told, not kept
            if seen.server is not None:
                state = state.seen(seen.server, api.now(), self._prices)
        return self._told(state, seen, api)

    def _told(self, state: DevState, seen: Look, api: ServerApi) -> DevStatus:
        now = api.now()
        there = state.is_there
        if there:
            state = state.billed(now, self._prices)
        return DevStatus(
            health=seen.health if there else "stopped",
            server_id=state.server_id,
            server_type=state.server_type,
            workflow_version=state.workflow_version,
            api_status=seen.server.current_status if seen.server else "",
            reason=seen.reason,
            comfyui_version=seen.version,
            uptime_s=state.billed_s(now) if there else 0.0,
            lease_left_s=max(0.0, state.stopping_time - now) if state.stopping_time else None,
            price=self._prices.per_hour(state.server_type),
            session_cost=state.session_cost,
            total_cost=state.total_cost,
            unpriced_s=state.unpriced_s,
            running=seen.running,
            pending=seen.pending,
        )

    def _settle_if(self, server_id: str, api: ServerApi) -> None:
        """Write down that a machine has ended, unless the file is about another by now."""
        with self._file.locked():
            state = self._file.read()
            if state.server_id == server_id:
                self._settle(state, api)

    def _version(self, api: ServerApi, workflow: WorkflowLike) -> str | None:
        if self._settings.workflow_version_id is not None or workflow is None:
            return self._settings.workflow_version_id
        name = workflow if isinstance(workflow, str) else workflow.spec_.name
        return find_version(api, name)

    @contextmanager
    def _api(self) -> Generator[ServerApi]:
        settings = self._settings
        api = ServerApi(
            settings.api_base_url, settings.user_id, settings.api_token, clock=self._clock
        )
        try:
            yield api
        finally:
            api.close()

    def _say_it_waits(self) -> None:
        self._say("another process is at work on the dev server, waiting for it")

    def _say(self, message: str) -> None:
        log.info("%s", message)
        self._report(Progress(kind="machine", message=message))
