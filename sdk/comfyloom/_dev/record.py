"""The recorded state of the dev server, kept consistent with the platform."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Self

import attrs

from comfyloom._core.redact import log
from comfyloom._dev import account
from comfyloom._dev.health import DevStatus, HealthCheck, check_health, status_of
from comfyloom._dev.interrupted_launch import stop_interrupted_launch
from comfyloom._machines.reaper import Reaper
from comfyloom._money.prices import PriceList
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import DevState, Health
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.locations import records_of
from comfyloom._records.tracker import MachineTracker
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.errors import LedgerError, MachineBusy
from comfyloom.progress import Progress, ProgressCallback
from comfyloom.settings import Settings


@attrs.frozen(kw_only=True)
class DevRecord:
    """The state file of the dev server, and the platform that it must agree with.

    `reconciled`, `current`, `record_check`, `record_ended` and `write` expect the caller to hold
    the lock.

    Args:
        report: Called with progress.
    """

    api: ServerApi
    settings: Settings
    file: StateFile
    prices: PriceList
    report: ProgressCallback

    @classmethod
    def of(cls, settings: Settings, api: ServerApi, report: ProgressCallback) -> Self:
        """Return the record that the settings name."""
        return cls(
            api=api,
            settings=settings,
            file=StateFile(settings.state_file, api.timeouts),
            prices=PriceList.of(settings),
            report=report,
        )

    @contextmanager
    def locked(self, *, required: bool = True) -> Generator[None]:
        """Lock the file; see `StateFile.locked`."""
        text = "another process is changing the dev server, waiting for it"
        with self.file.locked(partial(self.say, text), required=required):
            yield

    def say(self, message: str) -> None:
        """Log and report a message."""
        log.info("%s", message)
        self.report(Progress(kind="machine", message=message))

    def reconciled(self) -> DevState:
        """Return the state; the machine of an interrupted launch is stopped first.

        Raises:
            MachineError: The machine belongs to another account.
            MachineLeak: It is unclear which machine is ours.
        """
        state = self.file.read()
        if not state.is_there:
            return state
        if account.is_gone_with_its_emulator(state, self.api.timeouts):
            return self.record_ended(state)
        account.check_owner(state, self.settings, self.file.path)
        if not state.is_unanswered:
            return state
        path = str(self.file.path.absolute())
        stop_interrupted_launch(state, path, Reaper.of(self.settings, self.api, self.say), self.say)
        return self.record_ended(state)

    def current(self) -> DevState:
        """Return the state like `reconciled`, after a health check."""
        state = self.reconciled()
        if not state.server_id:
            return state
        return self.record_check(state, check_health(state, self.api, probes=1))

    def checked(self) -> DevStatus:
        """Check the dev server without the lock, record its state, and return its status."""
        state = self.file.read()
        seen = self._check(state)
        if state.server_id and state.is_of(self.settings):
            state = self._kept(state, seen)
        return status_of(state, seen, self.api.now(), self.prices)

    def record_check(self, state: DevState, seen: HealthCheck) -> DevState:
        """Record a health check, and return the state."""
        now = self.api.now()
        if seen.has_ended:
            self.say(f"the dev server {state.server_id} has ended ({seen.reason})")
            return self.record_ended(state, seen.server)
        if seen.server is not None:
            state = state.seen(seen.server, now, self.prices)
            state = attrs.evolve(state, health_status=seen.health)
        return self.write(attrs.evolve(state, last_health_check=now))

    def record_ended(
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
                records = records_of(self.settings, self.api.timeouts)
                if (row := records.find(server_id)) is not None:
                    records.record_ended(row.key, self.api.now(), by)
        return self.write(ended)

    def record_ended_if(
        self, server_id: str, last: Server | None = None, *, is_watched: bool = False
    ) -> None:
        """Record that a machine has ended, unless the file is about another one by now."""
        self._change(server_id, lambda state: self.record_ended(state, last, is_watched=is_watched))

    def record_seen(self, server: Server) -> None:
        """Record the platform's description of the machine, if the file is about it."""
        self._change(
            server.server_id,
            lambda state: self.write(state.seen(server, self.api.now(), self.prices)),
        )

    def write(self, state: DevState) -> DevState:
        """Record the state; an error must not prevent a stop."""
        try:
            self.file.write(state)
        except LedgerError as error:
            name = f" of machine {state.server_id}" if state.server_id else ""
            log.error("%s; the state%s is not recorded", error, name)
        return state

    def tracker(self, state: DevState) -> MachineTracker:
        """Return the tracker of the machine."""
        return MachineTracker(
            api=self.api,
            settings=self.settings,
            purpose="dev",
            server_type=state.server_type,
            workflow_version=state.workflow_version,
            state_file=self.file.path.absolute(),
        )

    def _change(self, server_id: str, how: Callable[[DevState], object]) -> None:
        """Change the file if it is about this machine; if that fails, the next check does it."""
        try:
            with self.file.locked(required=False):
                state = self.file.read()
                if state.server_id == server_id:
                    how(state)
        except (MachineBusy, LedgerError) as error:
            log.info("the dev server's state is not recorded: %s", error)

    def _check(self, state: DevState) -> HealthCheck:
        if not state.is_there:
            return HealthCheck(health=Health.STOPPED)
        if not state.is_of(self.settings):
            return HealthCheck(reason="it belongs to another account")
        if state.is_unanswered:
            reason = (
                "its launch has no answer yet; if no process waits for it, dev up or down stops it"
            )
            return HealthCheck(health=Health.LAUNCHING, reason=reason)
        return check_health(state, self.api)

    def _kept(self, state: DevState, seen: HealthCheck) -> DevState:
        """Record a health check, unless the file is about another machine by now."""
        longest_s = self.api.timeouts.dev_lock_s
        with suppress(MachineBusy), self.file.locked(longest_s=longest_s, required=False):
            current = self.file.read()
            if current.server_id == state.server_id:
                return self.record_check(current, seen)
        # Another process is changing it: return the result without recording it.
        if seen.server is None:
            return state
        return state.seen(seen.server, self.api.now(), self.prices)
