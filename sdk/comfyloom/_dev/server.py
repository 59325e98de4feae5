"""The dev server: a machine that outlives the processes using it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._dev import account
from comfyloom._dev.health import DevStatus, HealthCheck, check_health, status_of
from comfyloom._dev.manager import DevServerManager, Launched, LaunchRequest, WorkflowLike
from comfyloom._dev.watch import StatusSnapshot, follow
from comfyloom._machines.starting import Starting
from comfyloom._money.prices import PriceList
from comfyloom._records.dev_state import DevState, Health
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import MachineBusy, MachineError, MachineStartFailed
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.settings import Settings


class DevServer:
    """A machine that is started once, used by many sessions, and stopped by hand.

        DevServer().up(FluxMeshWorkflow)     # minutes
        with RunComfySession() as session:   # at once: it uses the dev server
            ...
        DevServer().down()

    It is recorded in a file of the project (`Settings.state_file`), so every process of the project
    finds it. It ends by itself after its idle timeout without use, and after its longest duration
    in any case. A machine that does not answer stays recorded until the platform says that it is
    gone. Two processes that start it at the same time start one machine.

    Args:
        settings: The account; by default gathered by `Settings.load`.
        on_progress: Called with the progress of a start.
        timeouts: Time limits and intervals.
        clock: The time; tests pass their own.

    Raises:
        ConfigError: Settings are missing or wrong; it lists them all.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        on_progress: ProgressCallback | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings or Settings.load()
        self._report: ProgressCallback = on_progress or (lambda _: None)
        self._timeouts = timeouts
        self._clock = clock
        self._file = StateFile(self._settings.state_file)

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
        """Start the dev server, unless it is running, and return when its ComfyUI answers.

        Args:
            workflow: What it is for: its name selects the version to launch if the settings name
                none.
            server_type: The machine type; by default from the settings.
            duration_s: Longest duration in seconds, from Ready; by default
                `Settings.dev_max_duration_s`.
            idle_timeout_s: Seconds without use after which it ends; by default
                `Settings.dev_idle_timeout_s`.

        Raises:
            MachineError: It did not become ready, and was stopped; or a running one differs from
                the request or does not answer, and is left unchanged.
            LedgerError: The state file cannot be read or written.
            ConfigError: It is unclear which workflow version to launch, or a time is invalid.
            ApiError: The platform refuses the launch.
        """
        request = LaunchRequest(
            workflow=workflow,
            server_type=server_type,
            duration_s=duration_s,
            idle_timeout_s=idle_timeout_s,
        )
        with self._manager() as manager, exit_on_sigterm():
            with self._locked():
                state = manager.current()
                launched = None if state.is_there else manager.launch(state, request)
                if launched is None:
                    state = manager.fitting(state, request)
            if launched is not None:
                self._await_launched(manager, launched)
            else:
                self._await_running(manager, state)
            return self._look(manager)

    def status(self) -> DevStatus:
        """Check the dev server, record its state, and return its status.

        Raises:
            LedgerError: The state file cannot be read.
            ApiError: The platform refuses for good.
        """
        with self._manager() as manager:
            return self._look(manager)

    def down(self, *, force: bool = False) -> DevStatus:
        """Stop the dev server and wait for the confirmation; without one, do nothing.

        Args:
            force: Stop it even if a prompt is running or pending.

        Raises:
            MachineBusy: A prompt is running or pending.
            MachineLeak: The platform did not confirm it; it stays recorded.
            MachineError: It belongs to another account.
            LedgerError: The state file cannot be read or written.
        """
        with self._manager() as manager, self._locked(required=False):
            state = manager.known()
            if state.is_there:
                defer_signals(
                    partial(manager.stop, state, force=force),
                    waiting=lambda: log.warning("stopping the dev server first"),
                )
            return status_of(
                self._file.read(),
                HealthCheck(health=Health.STOPPED),
                manager.api.now(),
                manager.prices,
            )

    def restart(
        self,
        workflow: WorkflowLike = None,
        *,
        force: bool = False,
        server_type: str | None = None,
        duration_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> DevStatus:
        """Stop the dev server and start another; omitted arguments keep their values.

        Raises:
            MachineBusy: A prompt is running or pending, and `force` is off.
            ComfyloomError: As `down` and `up`.
        """
        before = self._file.read()
        self.down(force=force)
        successor = self
        if workflow is None and before.workflow_version:
            version = self._settings.workflow_version_id or before.workflow_version
            settings = attrs.evolve(self._settings, workflow_version_id=version)
            successor = DevServer(
                settings, on_progress=self._report, timeouts=self._timeouts, clock=self._clock
            )
        return successor.up(
            workflow,
            server_type=server_type or before.server_type or None,
            duration_s=duration_s or before.max_duration or None,
            idle_timeout_s=idle_timeout_s or before.idle_timeout or None,
        )

    @property
    def is_remembered(self) -> bool:
        """Whether the state file names a machine or a launch; see `status` for its health.

        Raises:
            LedgerError: The state file cannot be read.
        """
        return self._file.read().is_there

    def watch(self) -> Generator[StatusSnapshot]:
        """Yield a snapshot about once a second, until the dev server has ended.

        While prompts of any client are running or pending, the lease is renewed.

        Raises:
            LedgerError: The state file cannot be read.
            ApiError: The platform refuses for good.
        """
        with self._manager() as manager:
            lease = account.lease_of(self._file.read(), manager.api, self._settings)

            def see() -> DevStatus:
                status = self._look(manager)
                now = self._file.read()
                lease.server_id, lease.ends_at = now.server_id, now.stopping_time
                lease.ready_at = now.ready_at
                return status

            def connect() -> ComfyUI:
                return ComfyUI(
                    self._file.read().base_url, timeouts=self._timeouts, clock=self._clock
                )

            yield from follow(see, connect, lease.touch, self._timeouts, self._clock)

    # --- waiting and checking, without the lock --------------------------------------------------

    def _await_launched(self, manager: DevServerManager, launched: Launched) -> None:
        """Wait for our own machine; if it does not become ready, stop it and record its end."""
        machine = launched.machine
        try:
            machine.await_ready(self._report, on_seen=_once_ready(manager.note))
        except BaseException:
            machine.stop()
            self._settle_if(manager, machine.server_id, is_watched=True)
            log.warning("%s", machine.summary)
            raise
        finally:
            machine.disconnect()
        with self._locked():
            manager.claim(launched)

    def _await_running(self, manager: DevServerManager, state: DevState) -> None:
        """Wait for a machine that another process started."""
        seen = check_health(state, manager.api)
        server = seen.server
        if seen.health is Health.STARTING:
            starting = Starting(
                api=manager.api,
                server_id=state.server_id,
                report=self._report,
                on_seen=_once_ready(manager.note),
            )
            try:
                server, comfyui = starting.wait()
            except MachineStartFailed:
                self._settle_if(manager, state.server_id)
                raise
            comfyui.close()
        elif seen.health is not Health.HEALTHY:
            rate = manager.prices.rate(state.server_type)
            raise MachineError(
                f"the dev server {state.server_id} ({rate}) is {seen.health}: {seen.reason}. It is "
                "left unchanged: comfyloom dev status, comfyloom dev restart",
                server_id=state.server_id,
                status=server.current_status if server else "",
            )
        if server is not None and server.estimated_duration == state.launched_for:
            # The process that launched it was killed before it set the lease.
            lease = account.lease_of(state, manager.api, self._settings)
            lease.note(server)
            lease.settle()

    def _look(self, manager: DevServerManager) -> DevStatus:
        state = self._file.read()
        seen = self._seen(manager, state)
        if state.server_id and state.is_of(self._settings):
            state = self._kept(manager, state, seen)
        return status_of(state, seen, manager.api.now(), manager.prices)

    def _seen(self, manager: DevServerManager, state: DevState) -> HealthCheck:
        if not state.is_there:
            return HealthCheck(health=Health.STOPPED)
        if not state.is_of(self._settings):
            return HealthCheck(reason="it belongs to another account")
        if state.is_open:
            reason = (
                "its launch has no answer yet; if no process waits for it, dev up finds it again"
            )
            return HealthCheck(health=Health.LAUNCHING, reason=reason)
        return check_health(state, manager.api)

    def _kept(self, manager: DevServerManager, state: DevState, seen: HealthCheck) -> DevState:
        """Record a health check, unless the file is about another machine by now."""
        try:
            with self._file.locked(longest_s=1.0, required=False):
                current = self._file.read()
                if current.server_id == state.server_id:
                    return manager.keep(current, seen)
        except (
            MachineBusy
        ):  # another process is changing it: return the result without recording it
            pass
        if seen.server is None:
            return state
        return state.seen(seen.server, manager.api.now(), manager.prices)

    def _settle_if(
        self, manager: DevServerManager, server_id: str, *, is_watched: bool = False
    ) -> None:
        """Record that a machine has ended, unless the file is about another one by now."""
        with self._locked(required=False):
            state = self._file.read()
            if state.server_id == server_id:
                manager.settle(state, is_watched=is_watched)

    @contextmanager
    def _locked(self, *, required: bool = True) -> Generator[None]:
        text = "another process is changing the dev server, waiting for it"
        with self._file.locked(partial(self._say, text), required=required):
            yield

    @contextmanager
    def _manager(self) -> Generator[DevServerManager]:
        settings = self._settings
        with ServerApi.of(settings, timeouts=self._timeouts, clock=self._clock) as api:
            yield DevServerManager(
                api=api,
                settings=settings,
                file=self._file,
                prices=PriceList.of(settings),
                say=self._say,
            )

    def _say(self, message: str) -> None:
        log.info("%s", message)
        self._report(Progress(kind="machine", message=message))


def _once_ready(note: Callable[[Server], object]) -> Callable[[Server], None]:
    """Return a function that calls `note` once, when the machine is ready."""
    noted: list[Server] = []

    def once(server: Server) -> None:
        if server.service_ready_at is not None and not noted:
            noted.append(server)
            note(server)

    return once
