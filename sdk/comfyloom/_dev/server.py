"""The dev server: a machine that outlives the processes using it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import log
from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._dev import account
from comfyloom._dev.health import DevStatus, HealthCheck, status_of
from comfyloom._dev.launch import LaunchRequest, WorkflowLike, await_launched, launch
from comfyloom._dev.record import DevRecord
from comfyloom._dev.reuse import await_running, fitting
from comfyloom._dev.stop import stop
from comfyloom._dev.watch import StatusSnapshot, follow
from comfyloom._machines.connect import connect
from comfyloom._records.dev_state import Health
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.rate_limits import RESERVE
from comfyloom.progress import ProgressCallback
from comfyloom.settings import Settings, to_server_types


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
        self._file = StateFile(self._settings.state_file, timeouts)

    def __repr__(self) -> str:
        return f"DevServer({str(self._settings.state_file)!r})"

    def up(
        self,
        workflow: WorkflowLike = None,
        *,
        server_type: str | Sequence[str] | None = None,
        duration_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> DevStatus:
        """Start the dev server, unless it is running, and return when its ComfyUI answers.

        Args:
            workflow: What it is for: its name selects the version to launch if the settings name
                none.
            server_type: The machine type, or several in order of preference; by default from the
                settings.
            duration_s: Longest duration in seconds, from Ready; by default
                `Settings.dev_max_duration_s`.
            idle_timeout_s: Seconds without use after which it ends; by default
                `Settings.dev_idle_timeout_s`.

        Raises:
            MachineError: It did not become ready, and was stopped; or a running one differs from
                the request or does not answer, and is left unchanged.
            LedgerError: The state file cannot be read or written.
            ConfigError: It is unclear which workflow version to launch, a time is invalid, or
                certificates are not to be checked.
            ApiError: The platform refuses the launch.
        """
        self._settings.demand_checked_certificates()
        request = LaunchRequest(
            workflow=workflow,
            server_type=None if server_type is None else to_server_types(server_type, None),
            duration_s=duration_s,
            idle_timeout_s=idle_timeout_s,
        )
        with self._record() as record, exit_on_sigterm():
            with record.locked():
                state = record.current()
                launched = None if state.is_there else launch(record, state, request)
                if launched is None:
                    state = fitting(record, state, request)
            if launched is not None:
                await_launched(record, launched)
            else:
                await_running(record, state)
            return record.checked()

    def status(self) -> DevStatus:
        """Check the dev server, record its state, and return its status.

        Raises:
            LedgerError: The state file cannot be read.
            ApiError: The platform refuses for good.
        """
        with self._record(reserve=RESERVE) as record:
            return record.checked()

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
        with self._record() as record, record.locked(required=False):
            state = record.reconciled()
            if state.is_there:
                defer_signals(
                    partial(stop, record, state, force=force),
                    waiting=lambda: log.warning("stopping the dev server first"),
                )
            return status_of(
                self._file.read(),
                HealthCheck(health=Health.STOPPED),
                record.api.now(),
                record.prices,
            )

    def restart(
        self,
        workflow: WorkflowLike = None,
        *,
        force: bool = False,
        server_type: str | Sequence[str] | None = None,
        duration_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> DevStatus:
        """Stop the dev server and start another; omitted arguments keep their values.

        Raises:
            MachineBusy: A prompt is running or pending, and `force` is not set.
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
        with self._record() as record:
            lease = account.lease_of(self._file.read(), record.api, self._settings)

            def see() -> DevStatus:
                status = record.checked()
                now = self._file.read()
                lease.server_id, lease.ends_at = now.server_id, now.stopping_time
                lease.ready_at = now.ready_at
                return status

            def reach() -> ComfyUI:
                return connect(self._file.read().base_url, record.api)

            yield from follow(see, reach, lease.touch, self._timeouts, self._clock)

    @contextmanager
    def _record(self, reserve: int = 0) -> Generator[DevRecord]:
        how: dict[str, Any] = {"timeouts": self._timeouts, "clock": self._clock}
        with ServerApi.of(self._settings, reserve=reserve, **how) as api:
            yield DevRecord.of(self._settings, api, self._report)
