"""Rented RunComfy machines as a backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from comfyloom._backends.account_availability import AccountAvailability
from comfyloom._backends.availability import Availability, why_silent
from comfyloom._backends.comfyui import OF_COMFYUI
from comfyloom._backends.machine_start import MachineStart
from comfyloom._backends.session_machines import SessionMachines
from comfyloom._backends.shared_start import SharedStart
from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.clock import SYSTEM_CLOCK, Clock
from comfyloom._core.threads import daemon_thread
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._machines.machine import Machine
from comfyloom._machines.reaper import Reaper, reap_quietly
from comfyloom._records.quick_check import may_have_other_machines
from comfyloom._runcomfy.client import ServerApi
from comfyloom.progress import ProgressCallback
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._workflow.workflow import Workflow


@attrs.define(eq=False)
class RunComfyBackend:
    """A machine on RunComfy: the dev server if it fits, else a launched one.

    Args:
        account: Returns the settings when they are needed.
        closing: Called at the end of `close`.
        is_real: Whether machines outlive this process; those of its own emulator do not.
        may_launch: Whether to launch a machine when there is no dev server to use.
    """

    modules: ClassVar[tuple[str, ...]] = (*OF_COMFYUI, "cattrs", "comfyloom._records.ledger")

    account: Callable[[], Settings] = attrs.field(repr=False)
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    clock: Clock = SYSTEM_CLOCK
    closing: Callable[[], object] = attrs.field(default=lambda: None, repr=False)
    is_real: bool = True
    may_launch: bool = True
    _account: str = attrs.field(default="", init=False, repr=False)
    _api: ServerApi | None = attrs.field(default=None, init=False, repr=False)
    _reaped: bool = attrs.field(default=False, init=False, repr=False)
    _machines: SessionMachines = attrs.field(factory=SessionMachines, init=False, repr=False)
    _starts: SharedStart[ComfyUI] = attrs.field(
        factory=SharedStart[ComfyUI], init=False, repr=False
    )

    @property
    def machine(self) -> Machine | None:
        """The machine that was used last."""
        return self._machines.current

    @property
    def is_free_to_open(self) -> bool:
        """Whether `open` would launch nothing."""
        return not self.may_launch or self.machine is not None

    @property
    def timings_key(self) -> str:
        """The type of the machine that was used last."""
        server_type = self.machine.server_type if self.machine is not None else ""
        return f"{self._account}: {server_type}"  # an emulator's timings differ

    def open(
        self,
        workflow: type[Workflow[Any]] | None,
        report: ProgressCallback,
        checkpoint: Callable[[], object],
    ) -> ComfyUI:
        """Borrow or launch the machine, if needed, and return its ComfyUI."""
        machine = self.machine
        if machine is not None and machine.comfyui is not None and machine.is_fresh:
            return machine.comfyui
        return self._starts.get(partial(self._start, workflow), report, checkpoint)

    def availability(self) -> Availability:
        """Ask the machine in use, else what a session would find."""
        machine = self.machine
        if machine is not None and (comfyui := machine.comfyui) is not None:
            is_there = machine.is_fresh or not why_silent(comfyui)
            if is_there:
                why, price = f"machine {machine.server_id} answers", machine.price
                return Availability(available=True, why=why, wait_s=0.0, usd_per_hour=price)
        return AccountAvailability(
            settings=self.account(),
            timeouts=self.timeouts,
            clock=self.clock,
            is_real=self.is_real,
            may_launch=self.may_launch,
        ).look()

    def after_fork(self) -> bool:
        """Return False: the session, and every machine that it launches, is the parent's."""
        return False

    def touch(self) -> None:
        """Renew the machine's lease when it is time."""
        if self.machine is not None:
            self.machine.touch()

    def check_alive(self, server: ComfyUI) -> None:
        """Raise `MachineError` if the machine of a server has ended; the next run uses another."""
        self._machines.check_alive(server)

    def give_up(self, server: ComfyUI) -> bool:
        """Give a server up; return whether its machine certainly runs nothing any more."""
        return self._machines.give_up(server)

    @property
    def summary(self) -> list[str]:
        """One human-readable line for each machine: its use and cost."""
        return self._machines.summary

    @property
    def cost(self) -> Decimal | None:
        """Cost of all its machines, in USD; None if a price is unknown."""
        return self._machines.cost

    def close(self) -> None:
        """Stop every launched machine that may still run; leave borrowed ones."""
        self._machines.is_closed = True
        with ExitStack() as stack:
            stack.callback(self.closing)
            if self._api is not None:
                stack.callback(self._api.close)
            for machine in self._machines:
                stack.callback(machine.release)

    def _start(self, workflow: type[Workflow[Any]] | None) -> MachineStart:
        settings = self.account()
        if self._api is None:
            self._api = ServerApi.of(settings, timeouts=self.timeouts, clock=self.clock)
            self._account = settings.api_base_url if self.is_real else "emulator"
        return MachineStart(
            settings=settings,
            api=self._api,
            machines=self._machines,
            workflow=workflow,
            is_real=self.is_real,
            may_launch=self.may_launch,
            reap=partial(self._reap, settings),
        )

    def _reap(self, settings: Settings, wait_s: float) -> None:
        """Stop orphaned machines in the background, once per session."""
        known = self.machine.server_id if self.machine is not None else ""
        if self._reaped or not self.is_real or not may_have_other_machines(settings, known):
            return
        self._reaped = True
        reaping = partial(_reap, settings, self.timeouts, self.clock)
        thread: threading.Thread = daemon_thread(reaping, "reaper")
        thread.start()
        thread.join(wait_s)


def _reap(settings: Settings, timeouts: Timeouts, clock: Clock) -> None:
    with ServerApi.of(settings, timeouts=timeouts, clock=clock) as api:
        reap_quietly(Reaper.of(settings, api))
