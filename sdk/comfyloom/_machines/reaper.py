"""Stopping machines that have no living owner."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from comfyloom._core.redact import log
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.lost_launch import LaunchSearch
from comfyloom._machines.stopping import Stopping
from comfyloom._money.prices import PriceList
from comfyloom._records.best_effort import best_effort
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.guard_log import fold_guard_logs
from comfyloom._records.locations import guard_log_folder, records_of
from comfyloom._records.machine_row import MachineRow
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    MachineLeak,
    MachineStartFailed,
    NotFound,
    TransportError,
)
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._records.machine_records import MachineRecords


@attrs.frozen(kw_only=True)
class Orphan:
    """A machine, or a launch, without a living owner.

    Attributes:
        why: Human-readable reason.
    """

    row: MachineRow
    why: str


@attrs.frozen(kw_only=True)
class Reaped:
    """What became of an orphan.

    Attributes:
        server_id: Its machine, "" if there is none.
        outcome: `stopped`, `gone` (it had ended already), `never appeared` or `left`.
        error: Why it was left, else None.
    """

    orphan: Orphan
    server_id: str
    outcome: str
    error: ComfyloomError | None = None


@attrs.frozen(kw_only=True)
class Reaper:
    """Finds the machines of an account that have no living owner, and stops them.

    A machine of a session belongs to its process; a process of another computer or container
    counts as dead without a heartbeat for longer than the lease. The dev server belongs to the
    file that names it, within its lease. A machine of a pool belongs to the process that renews
    it. Machines that the ledger does not name, or of other accounts, are never touched.

    Args:
        folder: Where guard processes log what they did.
        say: Called with progress messages.
    """

    api: ServerApi
    records: MachineRecords
    prices: PriceList = attrs.field(factory=PriceList)
    folder: Path = attrs.field(factory=guard_log_folder)
    say: Callable[[str], object] = lambda text: log.info("%s", text)

    @classmethod
    def of(
        cls,
        settings: Settings,
        api: ServerApi,
        say: Callable[[str], object] = lambda text: log.info("%s", text),
    ) -> Reaper:
        """Return the reaper of an account."""
        prices = PriceList.of(settings)
        return cls(api=api, records=records_of(settings, api.timeouts), prices=prices, say=say)

    def orphans(self) -> list[Orphan]:
        """Return the orphans; nothing is stopped.

        Raises:
            LedgerError: The ledger cannot be used.
            ApiError, TransportError: The platform does not list the machines.
        """
        self.fold()
        rows = self.records.list_unended()
        if rows and not self.api.tells_time:
            # Times in the ledger are the platform's: this computer's clock may be wrong.
            self.api.list_servers()
        now = self.api.now()
        found = [(row, self._why(row, now)) for row in rows]
        return [Orphan(row=row, why=why) for row, why in found if why is not None]

    def fold(self) -> None:
        """Record in the ledger what guard processes did.

        Raises:
            LedgerError: The ledger cannot be used.
        """
        fold_guard_logs(self.folder, self.records, self.api.now())

    def reap(self, orphan: Orphan, *, is_quick: bool = False) -> Reaped:
        """Stop an orphan and wait for the confirmation; an unanswered launch is looked for first.

        Args:
            orphan: The orphan.
            is_quick: Whether to try for a few seconds instead of two minutes, and look for a launch
                only once: the next session continues.
        """
        row = orphan.row
        if row.is_unanswered and self._age_s(row) > self.api.timeouts.start_s + row.launched_for:
            # It has ended by itself; a machine found now would belong to another process.
            self._record_ended(row, "its lease")
            return Reaped(orphan=orphan, server_id="", outcome="gone")
        try:
            server_id = row.server_id or self._find(row, is_quick=is_quick)
            by = self._stop(row, server_id, is_quick=is_quick)
        except MachineStartFailed as error:
            if is_quick and self._age_s(row) < self.api.timeouts.launch_search_s:
                return Reaped(orphan=orphan, server_id="", outcome="left", error=error)
            self._record_ended(row, "never appeared")
            return Reaped(orphan=orphan, server_id="", outcome="never appeared")
        except ComfyloomError as error:
            return Reaped(orphan=orphan, server_id=row.server_id or "", outcome="left", error=error)
        outcome = "stopped" if by == "deleted" else "gone"
        return Reaped(orphan=orphan, server_id=server_id, outcome=outcome)

    # --- whose it is -----------------------------------------------------------------------------

    def _why(self, row: MachineRow, now: float) -> str | None:
        """Return why a machine has no owner, None if it has one."""
        if row.stopping_at is not None:
            is_left = (
                row.owner.lives is False
                or now - row.stopping_at > self.api.timeouts.abandoned_stop_s
            )
            return "its stop was not confirmed" if is_left else None
        if row.kind == "dev":
            return self._why_dev(row, now)
        lives = None if row.kind == "pool" else row.owner.lives
        if lives is False:
            return f"{row.owner} is gone"
        if lives is None and row.is_overdue(now):
            return f"no sign of life for {(now - row.heartbeat_at) / 60:.0f} min"
        return None

    def _why_dev(self, row: MachineRow, now: float) -> str | None:
        file = Path(row.state_file)
        if not row.owner.is_here or not file.parent.is_dir():
            # Its file is on another computer, or on a disk that is not mounted.
            is_past = row.is_overdue(now) and self._has_ended(row)
            return "its longest duration is over" if is_past else None
        state = _state(file)
        if state is None:
            return None  # a file that cannot be read may name it
        if state.is_unanswered and row.launched_for == state.launched_for:
            # The file knows the launch, but not its machine: the launching process owns it.
            return f"{row.owner} is gone" if row.owner.lives is False else None
        if state.server_id and state.server_id == row.server_id:
            is_past = 0 < state.stopping_time < now - self.api.timeouts.abandoned_stop_s
            return "its lease is over" if is_past and self._has_ended(row) else None
        if row.owner.lives and now - row.intended_at < self.api.timeouts.settling_s:
            return None
        return "no state file names it"

    def _has_ended(self, row: MachineRow) -> bool:
        """Ask the platform, because the lease may have been extended."""
        try:
            server = self.api.get_server(row.server_id or "", backoff=NO_RETRY)
        except NotFound:
            return True
        except (ApiError, TransportError):
            return False
        ends = server.estimated_stopping_at
        return server.has_ended or (ends is not None and ends.timestamp() < self.api.now())

    # --- what is done ----------------------------------------------------------------------------

    def _find(self, row: MachineRow, *, is_quick: bool) -> str:
        """Return the machine of an unanswered launch, and record it."""
        self.say("a launch has no answer: looking for its machine")
        search = LaunchSearch(self.api, row.server_type, row.launched_for, self.prices)
        reason = ComfyloomError("the process that launched it is gone")
        known = row.known_servers
        if known is not None:
            # Exclude the machines of later launches, whatever their duration.
            with best_effort(level=logging.ERROR):
                known |= self.records.ids_since(row.intended_at)
        rest_s = self.api.timeouts.launch_search_s - max(0.0, self._age_s(row))
        server = search.find(known, reason, 0.0 if is_quick else rest_s)
        with best_effort(level=logging.ERROR):
            self.records.record_launched(row.key, server.server_id)
        return server.server_id

    def _stop(self, row: MachineRow, server_id: str, *, is_quick: bool) -> str:
        stopped = Stopping(
            api=self.api,
            server_id=server_id,
            server_type=row.server_type,
            prices=self.prices,
            # One found by its duration was just listed.
            was_seen=row.ready_at is not None or row.server_id is None,
            launched_at=self.api.clock.monotonic() - self._age_s(row),
            retry_auth_errors=False,
        ).confirm(self.api.timeouts.reap_stop_s if is_quick else None)
        self._record_ended(row, f"reaper: {stopped.by}")
        return stopped.by

    def _record_ended(self, row: MachineRow, by: str) -> None:
        with best_effort(level=logging.ERROR):
            self.records.record_ended(row.key, self.api.now(), by)

    def _age_s(self, row: MachineRow) -> float:
        return self.api.now() - row.intended_at


def reap_quietly(reaper: Reaper) -> None:
    """Stop orphans when a session begins; errors are only logged."""
    try:
        for orphan in reaper.orphans():
            reaped = reaper.reap(orphan, is_quick=True)
            if reaped.outcome == "stopped":
                log.warning("stopped orphaned machine %s (%s)", reaped.server_id, orphan.why)
            elif isinstance(reaped.error, MachineLeak):
                log.error("%s", reaped.error)
    except ComfyloomError as error:
        log.warning("orphaned machines could not be checked: %s", error)


def _state(file: Path) -> DevState | None:
    with best_effort():
        return StateFile(file).read()
    return None
