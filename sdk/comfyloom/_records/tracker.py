"""Bookkeeping of a machine that outlives this process: ledger row and guard process."""

from __future__ import annotations

import logging
import uuid
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from comfyloom._core.redact import log
from comfyloom._guard.guard import Guard, Held, guard_of_process
from comfyloom._records.best_effort import best_effort
from comfyloom._records.locations import guard_log_folder, records_of
from comfyloom._records.machine_row import MachinePurpose, MachineRow
from comfyloom._records.owner import Owner
from comfyloom._runcomfy.client import ServerApi, account_url
from comfyloom._runcomfy.models import Server
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._records.machine_records import MachineRecords


@attrs.define(eq=False)
class NullTracker:
    """No bookkeeping: the emulated machine dies with this process.

    Attributes:
        is_guarded: Whether a guard process watches the machine.
    """

    is_guarded: bool = attrs.field(default=False, init=False)

    def exclusive_launch(self) -> AbstractContextManager[object]:
        """Lock out other launches on the account while its machines are counted."""
        return nullcontext()

    def record_intent(self, seconds: int, before: frozenset[str] | None, lease_s: float) -> None:
        """Record a launch that is about to be sent."""

    def record_launched(self, server_id: str) -> None:
        """Record which machine the launch gave."""

    def record_seen(self, server: Server) -> None:
        """Record that the platform has listed the machine, and when it became ready."""

    def record_heartbeat(self) -> None:
        """Record a heartbeat."""

    def record_stopping(self) -> None:
        """Record that the machine is being stopped."""

    def record_refused(self) -> None:
        """Record that the platform refused the launch; the guard makes sure of it."""

    def record_ended(self, by: str) -> None:
        """Record that the machine has ended, and what confirmed it."""

    def release_guard(self) -> None:
        """Make the guard forget the machine: it has ended, or belongs to something else."""

    def hand_over_to_guard(self) -> bool:
        """Let the guard continue the stop; return whether there is a guard."""
        return False


@attrs.define(eq=False, kw_only=True)
class MachineTracker(NullTracker):
    """One machine, from the intent to launch it until its end is confirmed.

    Only recording the intent may fail: without it nothing is launched. Later failures are logged,
    because a record that cannot be written must not lose a machine.

    Args:
        purpose: What the machine is for.
        state_file: For the dev server: its state file.
        guard: The guard process, None for none.
        key: Identifies the machine before it has an id.
    """

    api: ServerApi
    settings: Settings = attrs.field(repr=False)
    purpose: MachinePurpose
    server_type: str
    workflow_version: str = ""
    state_file: Path | None = None
    guard: Guard | None = attrs.field(factory=guard_of_process)
    key: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    records: MachineRecords = attrs.field(init=False)
    _is_seen: bool = attrs.field(default=False, init=False)
    _is_ready: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.records = records_of(self.settings, self.api.timeouts)

    def exclusive_launch(self) -> AbstractContextManager[None]:
        """Lock out other launches on the account; raise `LedgerError` if that fails."""
        account = f"{self.records.base_url} {self.records.user_id}"
        return self.records.ledger.exclusive(account)

    def record_intent(self, seconds: int, before: frozenset[str] | None, lease_s: float) -> None:
        """Record a launch that is about to be sent, and let the guard watch it.

        Args:
            seconds: Its distinctive duration.
            before: The machines listed before it, None if listing failed.
            lease_s: How long the machine may live without a heartbeat from here.

        Raises:
            LedgerError: It cannot be recorded: nothing may be launched.
        """
        now = self.api.now()
        row = MachineRow(
            key=self.key,
            kind=self.purpose,
            server_type=self.server_type,
            workflow_version=self.workflow_version,
            launched_for=seconds,
            known_servers=before,
            intended_at=now,
            state_file=str(self.state_file or ""),
            heartbeat_at=now,
            lease_s=lease_s,
            owner=Owner.current(),
        )
        self.records.record_intent(row)
        self._hold(seconds, before)

    def adopt(self, server_id: str, *, seen: bool) -> None:
        """Track a machine that another process launched, because it is being stopped."""
        with best_effort():
            if (row := self.records.find(server_id)) is not None:
                self.key = row.key
        self._hold(0, None, server_id=server_id, seen=seen)

    def record_launched(self, server_id: str) -> None:
        """Record which machine the launch gave."""
        if self.guard is not None:
            self.guard.launched(self.key, server_id)
        with _keeping_record():
            self.records.record_launched(self.key, server_id)

    def record_seen(self, server: Server) -> None:
        """Record that the platform has shown the machine, and when it became ready."""
        if not self._is_seen and self.guard is not None:
            self.guard.seen(self.key)
        self._is_seen = True
        if (ready := server.service_ready_at) is not None and not self._is_ready:
            self._is_ready = True
            with _keeping_record():
                self.records.record_ready(self.key, ready.timestamp())

    def record_heartbeat(self) -> None:
        """Record a heartbeat, and restart the guard if it was killed."""
        with _keeping_record():
            self.records.record_heartbeat(self.key, self.api.now())
        if self.guard is not None and not self.guard.check():
            self.is_guarded = False

    def record_stopping(self) -> None:
        """Record that the machine is being stopped."""
        with _keeping_record():
            self.records.record_stopping(self.key, self.api.now(), Owner.current())

    def record_refused(self) -> None:
        """Record that the platform refused the launch; the guard makes sure of it.

        Without a guard, the next reaper does.
        """
        self.record_stopping()
        if self.guard is not None and self.is_guarded:
            self.guard.refused(self.key)

    def record_ended(self, by: str) -> None:
        """Record that the machine has ended, and what confirmed it."""
        with _keeping_record():
            self.records.record_ended(self.key, self.api.now(), by)
        self.release_guard()

    def clear_stopping(self) -> None:
        """Record that the machine is not being stopped after all, and release the guard."""
        with _keeping_record():
            self.records.clear_stopping(self.key)
        self.release_guard()

    def release_guard(self) -> None:
        """Make the guard forget the machine: it has ended, or belongs to something else."""
        if self.guard is not None:
            self.guard.forget(self.key)
        self.is_guarded = False

    def hand_over_to_guard(self) -> bool:
        """Let the guard continue the stop; return whether there is a guard."""
        return self.guard is not None and self.is_guarded and self.guard.stop(self.key)

    def _hold(
        self,
        seconds: int,
        before: frozenset[str] | None,
        *,
        server_id: str = "",
        seen: bool = False,
    ) -> None:
        if self.guard is None:
            return
        held = Held(
            key=self.key,
            api=account_url(self.settings.api_base_url, self.settings.user_id),
            token=self.settings.api_token,
            server_type=self.server_type,
            seconds=seconds,
            before=before,
            journal=self._guard_log(),
            server_id=server_id,
            seen=seen,
        )
        self.is_guarded = self.guard.hold(held)

    def _guard_log(self) -> Path | None:
        folder = guard_log_folder()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.warning("cannot write %s: %s", folder, error.strerror or error)
            return None
        return folder / f"{self.key}.jsonl"


def _keeping_record() -> AbstractContextManager[None]:
    return best_effort("the machine's record is not kept up to date", logging.ERROR)
