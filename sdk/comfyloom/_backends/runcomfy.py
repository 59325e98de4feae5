"""Rented RunComfy machines as a backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from functools import partial

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.redact import log
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._dev.borrow import Refusal, borrow
from comfyloom._dev.record import DevRecord
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.launched import LaunchedMachine
from comfyloom._machines.machine import Machine
from comfyloom._machines.reaper import Reaper, reap_quietly
from comfyloom._money.prices import PriceList
from comfyloom._records.quick_check import may_have_other_machines
from comfyloom._records.tracker import MachineTracker, NullTracker
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.versions import find_version
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    LedgerError,
    MachineError,
    MachineLeak,
    TransportError,
)
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.settings import Settings


@attrs.frozen(kw_only=True)
class _Need:
    """A request for a machine: account, workflow version, and the callback for progress."""

    settings: Settings
    api: ServerApi
    version: str
    report: ProgressCallback

    @property
    def prices(self) -> PriceList:
        """What machines cost."""
        return PriceList.of(self.settings)


@attrs.define(eq=False)
class RunComfyBackend:
    """A machine on RunComfy: the dev server if it fits, else a launched one.

    Args:
        account: Returns the settings when they are needed.
        closing: Called at the end of `close`.
        is_real: Whether machines outlive this process; those of its own emulator do not.
        may_launch: Whether to launch a machine when there is no dev server to use.
    """

    account: Callable[[], Settings] = attrs.field(repr=False)
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    clock: Clock = SYSTEM_CLOCK
    closing: Callable[[], object] = attrs.field(default=lambda: None, repr=False)
    is_real: bool = True
    may_launch: bool = True
    machine: Machine | None = attrs.field(default=None, init=False)
    _account: str = attrs.field(default="", init=False, repr=False)
    _api: ServerApi | None = attrs.field(default=None, init=False, repr=False)
    _is_closed: bool = attrs.field(default=False, init=False, repr=False)
    _reaped: bool = attrs.field(default=False, init=False, repr=False)
    # All that were used: stopping is tried again at the end.
    _machines: list[Machine] = attrs.field(factory=list[Machine], init=False, repr=False)

    @property
    def timings_key(self) -> str:
        """The type of the machine that was used last."""
        server_type = self.machine.server_type if self.machine is not None else ""
        return f"{self._account}: {server_type}"  # an emulator's timings differ

    def open(self, workflow: str | None, report: ProgressCallback) -> ComfyUI | None:
        """Borrow or launch the machine, if needed, and return its ComfyUI."""
        if (comfyui := self._in_use()) is not None:
            return comfyui
        settings = self.account()
        api = self._connect(settings)
        version = settings.workflow_version_id
        if version is None:
            if workflow is None:
                return None
            version = find_version(api, workflow)
        need = _Need(settings=settings, api=api, version=version, report=report)
        if (borrowed := self._borrow(need)) is not None:
            self._reap(need)
            return borrowed
        # Orphaned machines count for `max_machines`, so wait a little for their stop.
        if (reaping := self._reap(need)) is not None:
            reaping.join(self.timeouts.reap_wait_s)
        return self._launch(need)

    def after_fork(self) -> bool:
        """Return whether it was not used yet: a machine belongs to the process that uses it."""
        return self._api is None

    def touch(self) -> None:
        """Renew the machine's lease when it is time."""
        if self.machine is not None:
            self.machine.touch()

    def check_alive(self, server: ComfyUI) -> None:
        """Raise `MachineError` if the machine of a server has ended; the next run uses another."""
        machine = next((each for each in self._machines if each.serves(server)), None)
        if machine is None:
            return
        try:
            machine.check_alive()
        except MachineError:
            self._give_up(machine)
            raise

    @property
    def summary(self) -> list[str]:
        """One human-readable line for each machine: its use and cost."""
        return [machine.summary for machine in self._machines if machine.server_id]

    @property
    def cost(self) -> Decimal | None:
        """Cost of all its machines, in USD; None if a price is unknown."""
        total = Decimal(0)
        for machine in self._machines:
            if (cost := machine.cost) is None:
                return None
            total += cost
        return total

    def close(self) -> None:
        """Stop every launched machine that may still run; leave borrowed ones."""
        self._is_closed = True
        with ExitStack() as stack:
            stack.callback(self.closing)
            if self._api is not None:
                stack.callback(self._api.close)
            for machine in self._machines:
                stack.callback(machine.release)

    def _in_use(self) -> ComfyUI | None:
        """Return the ComfyUI of the machine in use; None if there is none, or it is gone."""
        machine = self.machine
        if machine is None or (comfyui := machine.comfyui) is None:
            return None
        if machine.is_fresh:
            return comfyui
        try:
            comfyui.system_stats(backoff=NO_RETRY, timeout_s=self.timeouts.probe_s)
        except (TransportError, ApiError):
            try:
                self.check_alive(comfyui)
            except MachineLeak:
                raise
            except MachineError as gone:
                log.warning("%s; using another", gone)
                return None
        return comfyui

    def _give_up(self, machine: Machine) -> None:
        """Leave a machine that is gone; releasing it stops one of our own that does not answer."""
        machine.disconnect()
        machine.comfyui = None
        if machine.is_silent:
            machine.release()

    def _connect(self, settings: Settings) -> ServerApi:
        if self._api is None:
            self._api = ServerApi.of(settings, timeouts=self.timeouts, clock=self.clock)
            self._account = settings.api_base_url if self.is_real else "emulator"
        return self._api

    def _borrow(self, need: _Need) -> ComfyUI | None:
        """Return the ComfyUI of the dev server, None if a machine must be launched."""
        if not self.is_real:
            return None
        record = DevRecord.of(need.settings, need.api, need.report)
        try:
            found = borrow(record, need.version)
        except LedgerError as error:
            if not self.may_launch:
                raise
            found = Refusal(reason=str(error), unexpected=True)
        if isinstance(found, Refusal):
            self._refused(found)
            return None
        self._use(found)
        need.report(Progress(kind="machine", message=f"using the dev server {found.server_id}"))
        return found.comfyui

    def _refused(self, refusal: Refusal) -> None:
        if not self.may_launch:
            advice = f": {refusal.advice}" if refusal.advice else ""
            raise MachineError(f"no machine to run on: {refusal.reason}{advice}")
        if refusal.unexpected:
            log.warning("%s; launching another machine", refusal.reason)
        else:
            log.info("%s", refusal.reason)

    def _launch(self, need: _Need) -> ComfyUI:
        settings = need.settings
        machine = LaunchedMachine(
            need.api,
            settings.server_type,
            prices=need.prices,
            longest_s=settings.max_duration_s,
            max_machines=settings.max_machines,
            idle_timeout_s=settings.idle_timeout_s,
            tracker=self._tracker(need),
        )
        self._use(machine)
        if self._is_closed:  # by another thread, which did not see this machine
            raise ComfyloomError("this session is closed")
        need.report(Progress(kind="machine", message=f"launching a {machine.server_type} machine"))
        try:
            return machine.start(need.version, need.report)
        except BaseException:
            machine.stop()
            raise

    def _reap(self, need: _Need) -> threading.Thread | None:
        """Start stopping orphaned machines, once per session."""
        known = self.machine.server_id if self.machine is not None else ""
        if self._reaped or not self.is_real or not may_have_other_machines(need.settings, known):
            return None
        self._reaped = True
        thread = daemon_thread(partial(_reap, need.settings, self.timeouts, self.clock), "reaper")
        thread.start()
        return thread

    def _tracker(self, need: _Need) -> NullTracker:
        if not self.is_real:
            return NullTracker()
        return MachineTracker(
            api=need.api,
            settings=need.settings,
            purpose="session",
            server_type=need.settings.server_type,
            workflow_version=need.version,
        )

    def _use(self, machine: Machine) -> None:
        self.machine = machine
        self._machines.append(machine)


def _reap(settings: Settings, timeouts: Timeouts, clock: Clock) -> None:
    with ServerApi.of(settings, timeouts=timeouts, clock=clock) as api:
        reap_quietly(Reaper.of(settings, api))
