"""Using the dev server instead of launching a machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._dev import account
from comfyloom._dev.health import HealthCheck, check_health
from comfyloom._machines.borrowed import BorrowedMachine
from comfyloom._machines.starting import Starting
from comfyloom._money.prices import PriceList
from comfyloom._records.dev_state import DevState, Health
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.machine_url import machine_url
from comfyloom._runcomfy.models import Server
from comfyloom.errors import LedgerError, MachineBusy, MachineStartFailed
from comfyloom.progress import ProgressCallback
from comfyloom.settings import Settings

_UP: Final = "comfyloom dev up starts one"
_RESTART: Final = "comfyloom dev restart starts another"


@attrs.frozen(kw_only=True)
class Refusal:
    """Why the dev server is not used.

    Attributes:
        reason: Human-readable.
        advice: What would help, "" if nothing would.
        unexpected: Whether to warn: a dev server was expected.
    """

    reason: str
    advice: str = ""
    unexpected: bool = False


@attrs.frozen(kw_only=True)
class Borrowing:
    """A session's attempt to use the dev server.

    Args:
        version: The workflow version that it must have been launched with.
        server_type: The requested machine type, None for any.
    """

    settings: Settings
    api: ServerApi
    version: str
    server_type: str | None
    report: ProgressCallback
    prices: PriceList

    def take(self) -> BorrowedMachine | Refusal:
        """Return the dev server if it fits and is healthy, or why not. Waits for a start.

        Raises:
            LedgerError: The state file cannot be read.
            ApiError: The platform refuses for good.
            MachineTimeout: It was starting, and was not ready in time.
        """
        file = StateFile(self.settings.state_file)
        state = file.read()
        if (refusal := self._unfit(state)) is not None:
            return refusal
        seen = check_health(state, self.api)
        if seen.health is Health.STARTING:
            seen = self._await(state)
        if seen.has_ended:
            self._settle(file, state, seen)
            reason = f"the dev server {state.server_id} has ended ({seen.reason})"
            return Refusal(reason=reason, advice=_UP, unexpected=True)
        if seen.server is None or seen.health is not Health.HEALTHY:
            rate = self.prices.rate(state.server_type)
            reason = f"the dev server {state.server_id} ({rate}) is {seen.health}: {seen.reason}"
            advice = _RESTART if seen.health is Health.UNREACHABLE else ""
            return Refusal(reason=reason, advice=advice, unexpected=True)
        machine = BorrowedMachine(self.api, state.server_type, prices=self.prices)
        comfyui = ComfyUI(
            machine_url(seen.server), timeouts=self.api.timeouts, clock=self.api.clock
        )
        lease = account.lease_of(state, self.api, self.settings)
        lease.on_changed = partial(self._note, file, state)
        machine.take(seen.server, comfyui, lease)
        return machine

    def _unfit(self, state: DevState) -> Refusal | None:
        if not state.is_there:
            return Refusal(reason="there is no dev server", advice=_UP)
        if not state.is_of(self.settings):
            return Refusal(reason="the dev server belongs to another account")
        if state.is_open:
            return Refusal(reason="the launch of the dev server has no answer yet", advice=_UP)
        if state.workflow_version != self.version:
            reason = "the dev server was launched with another workflow version"
            return Refusal(reason=reason, advice=_RESTART)
        if self.server_type not in (None, state.server_type):
            reason = f"the dev server is a {state.server_type} machine, not {self.server_type}"
            return Refusal(reason=reason, advice=_RESTART)
        return None

    def _await(self, state: DevState) -> HealthCheck:
        """Wait for a starting dev server: launching our own would take as long."""
        starting = Starting(api=self.api, server_id=state.server_id, report=self.report)
        try:
            server, comfyui = starting.wait()
        except MachineStartFailed as error:
            return HealthCheck(has_ended=True, health=Health.STOPPED, reason=error.status)
        comfyui.close()
        return HealthCheck(server=server, health=Health.HEALTHY)

    def _settle(self, file: StateFile, state: DevState, seen: HealthCheck) -> None:
        def ended(current: DevState) -> DevState:
            known = seen.server is not None
            return current.ended(self.api.now(), self.prices, seen.server, is_cost_known=known)

        self._change(file, state, ended)

    def _note(self, file: StateFile, state: DevState, server: Server) -> None:
        """Record that the lease was renewed, which changes the possible cost."""
        self._change(file, state, lambda now: now.seen(server, self.api.now(), self.prices))

    def _change(
        self, file: StateFile, state: DevState, how: Callable[[DevState], DevState]
    ) -> None:
        """Change the file if it is still about this machine; on an error, the next check does."""

        def changed(current: DevState) -> DevState:
            return how(current) if current.server_id == state.server_id else current

        try:
            file.change(changed)
        except (MachineBusy, LedgerError) as error:
            log.info("the dev server's state is not recorded: %s", error)
