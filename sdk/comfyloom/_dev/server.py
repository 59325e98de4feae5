"""The dev server: a machine that outlives the processes that use it."""

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

    It is remembered in a file of the project (`Settings.state_file`), so every process of the
    project finds it. Without use it ends by itself after its idle timeout, and in any case after
    its longest duration. A machine that does not answer is never forgotten: only the platform's
    word that it is gone removes it. Two processes that start it at once start one machine.

    Args:
        settings: The account; by default gathered by `Settings.load`.
        on_progress: Called with how a start goes.
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
        """Return how the dev server is; the file remembers it as well.

        Raises:
            LedgerError: The file that remembers it cannot be read.
            ApiError: The platform refuses to tell for good.
        """
        with self._manager() as manager:
            return self._look(manager)

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
        """Whether the file names a machine, or a launch; how that is, `status` tells.

        Raises:
            LedgerError: The file that remembers it cannot be read.
        """
        return self._file.read().is_there

    def watch(self) -> Generator[StatusSnapshot]:
        """Yield what there is to see about once a second, until there is no dev server any more.

        While prompts run or wait, whoever submitted them, the lease is renewed.

        Raises:
            LedgerError: The file that remembers it cannot be read.
            ApiError: The platform refuses to tell for good.
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

    # --- waiting and looking, without the lock ---------------------------------------------------

    def _await_launched(self, manager: DevServerManager, launched: Launched) -> None:
        """Wait for our own machine; one that does not get ready is stopped and settled."""
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
        """Wait for a machine that somebody else started."""
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
                "left as it is: comfyloom dev status, comfyloom dev restart",
                server_id=state.server_id,
                status=server.current_status if server else "",
            )
        if server is not None and server.estimated_duration == state.launched_for:
            # Whoever launched it was killed before the lease was set.
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
            reason = "its launch has no answer yet; if nobody waits for it, dev up finds it again"
            return HealthCheck(health=Health.LAUNCHING, reason=reason)
        return check_health(state, manager.api)

    def _kept(self, manager: DevServerManager, state: DevState, seen: HealthCheck) -> DevState:
        """Write down what was seen, unless the file is about another machine by now."""
        try:
            with self._file.locked(longest_s=1.0, required=False):
                current = self._file.read()
                if current.server_id == state.server_id:
                    return manager.keep(current, seen)
        except MachineBusy:  # somebody changes it just now: what was seen is told, not kept
            pass
        if seen.server is None:
            return state
        return state.seen(seen.server, manager.api.now(), manager.prices)

    def _settle_if(
        self, manager: DevServerManager, server_id: str, *, is_watched: bool = False
    ) -> None:
        """Write down that a machine has ended, unless the file is about another by now.

        Args:
            manager: Keeps the file.
            server_id: The machine.
            is_watched: Whether it was looked at until its end: if it was not ready, it was free.
        """
        with self._locked(required=False):
            state = self._file.read()
            if state.server_id == server_id:
                manager.settle(state, is_watched=is_watched)

    @contextmanager
    def _locked(self, *, required: bool = True) -> Generator[None]:
        def waits() -> None:
            self._say("another process is at work on the dev server, waiting for it")

        with self._file.locked(waits, required=required):
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
    """Return what notes a machine as soon as it is ready, and after that no more."""
    noted: list[Server] = []

    def once(server: Server) -> None:
        if server.service_ready_at is not None and not noted:
            noted.append(server)
            note(server)

    return once
