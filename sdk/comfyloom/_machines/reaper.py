"""Stopping what has no living owner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from comfyloom._core.redact import log
from comfyloom._http.retry import NO_RETRY
from comfyloom._machines.launch import SEARCH_FOR_S, Launch
from comfyloom._machines.starting import LONGEST_START_S
from comfyloom._machines.stopping import LONGEST_STOP_S, Stopping
from comfyloom._money.prices import PriceList
from comfyloom._records import guard_log
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.machine_records import MachineRecords, MachineRow
from comfyloom._records.tracker import JOURNALS, state_folder
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    LedgerError,
    MachineLeak,
    MachineStartFailed,
    NotFound,
    TransportError,
)

UNCONFIRMED_S: Final = 60.0
"""A stop that was decided so long ago is nobody's any more: its owner gave it up."""
SETTLING_S: Final = 600.0
"""So long may a process that lives take until its file names what it launched."""
QUIET_STOP_S: Final = 10.0
"""How long a session that begins tries to stop what another one left."""


@attrs.frozen(kw_only=True)
class Orphan:
    """A machine, or a launch, without a living owner.

    Attributes:
        row: What the ledger knows of it.
        why: Why nobody owns it, for people.
    """

    row: MachineRow
    why: str


@attrs.frozen(kw_only=True)
class Reaped:
    """What became of an orphan.

    Attributes:
        orphan: It.
        server_id: Its machine, "" if there is none.
        outcome: `stopped`, `gone` (it had ended already), `never appeared` or `left`.
        error: Why it was left, None else.
    """

    orphan: Orphan
    server_id: str
    outcome: str
    error: ComfyloomError | None = None


@attrs.frozen(kw_only=True)
class Reaper:
    """Finds the machines of an account that have no living owner, and stops them.

    A machine of a session belongs to its process; one that cannot be asked (of another computer or
    container) counts as dead when it gave no sign of life for longer than the lease. The dev
    server belongs to the file that names it, within its lease. A machine of a pool belongs to
    whoever renews it. A machine that the ledger does not name is never touched.

    Args:
        api: The account; no other one's machines are touched.
        machines: The ledger.
        prices: What machines cost.
        folder: Where guards leave their notes.
        say: Told what is done.
    """

    api: ServerApi
    machines: MachineRecords
    prices: PriceList = attrs.field(factory=PriceList)
    folder: Path = attrs.field(factory=lambda: state_folder() / JOURNALS)
    say: Callable[[str], object] = lambda text: log.info("%s", text)

    def orphans(self) -> list[Orphan]:
        """Return what has no living owner; nothing is stopped.

        Raises:
            LedgerError: The ledger cannot be used.
            ApiError: The platform refuses to tell.
            TransportError: The platform is out of reach.
        """
        self.fold()
        rows = self.machines.open()
        if rows and not self.api.tells_time:
            # The times in the ledger are the platform's: this computer's clock may be wrong.
            self.api.list_servers()
        now = self.api.now()
        found = [(row, self._why(row, now)) for row in rows]
        return [Orphan(row=row, why=why) for row, why in found if why is not None]

    def fold(self) -> None:
        """Write into the ledger what guard processes did.

        Raises:
            LedgerError: The ledger cannot be used.
        """
        guard_log.fold(self.folder, self.machines, self.api.now())

    def reap(self, orphan: Orphan, *, is_patient: bool = True) -> Reaped:
        """Stop an orphan and see it confirmed; a launch without an answer is looked for first.

        Args:
            orphan: It.
            is_patient: Whether to go on for two minutes; else a few seconds, and a launch is looked
                for once: whoever comes next goes on.
        """
        row = orphan.row
        if row.is_open and self._age_s(row) > LONGEST_START_S + row.launched_for:
            # It has ended by itself; whatever is found now is somebody else's.
            self._write(lambda: self.machines.ended(row.key, self.api.now(), "its lease"))
            return Reaped(orphan=orphan, server_id="", outcome="gone")
        try:
            server_id = row.server_id or self._find(row, is_patient=is_patient)
            by = self._stop(row, server_id, is_patient=is_patient)
        except MachineStartFailed as error:
            if not is_patient and not self._is_searched(row):
                return Reaped(orphan=orphan, server_id="", outcome="left", error=error)
            self._write(lambda: self.machines.ended(row.key, self.api.now(), "never appeared"))
            return Reaped(orphan=orphan, server_id="", outcome="never appeared")
        except ComfyloomError as error:
            return Reaped(orphan=orphan, server_id=row.server_id or "", outcome="left", error=error)
        outcome = "stopped" if by == "deleted" else "gone"
        return Reaped(orphan=orphan, server_id=server_id, outcome=outcome)

    # --- whose it is -----------------------------------------------------------------------------

    def _why(self, row: MachineRow, now: float) -> str | None:
        """Return why nobody owns a machine, None if somebody does."""
        if row.stopping_at is not None:
            is_left = row.owner.lives is False or now - row.stopping_at > UNCONFIRMED_S
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
            # Its file is on another computer, or on a disk that is not there.
            is_past = row.is_overdue(now) and self._has_ended(row)
            return "its longest duration is over" if is_past else None
        state = _state(file)
        if state is None:
            return None  # a file that cannot be read may name it
        if state.is_open and row.launched_for == state.launched_for:
            # The file knows of the launch, but not of its machine: whoever launches still holds it.
            return f"{row.owner} is gone" if row.owner.lives is False else None
        if state.server_id and state.server_id == row.server_id:
            is_past = 0 < state.stopping_time < now - UNCONFIRMED_S
            return "its lease is over" if is_past and self._has_ended(row) else None
        if row.owner.lives and now - row.intended_at < SETTLING_S:
            return None
        return "no state file names it"

    def _has_ended(self, row: MachineRow) -> bool:
        """Ask whether a lease that the file calls over was not made longer since."""
        try:
            server = self.api.get_server(row.server_id or "", backoff=NO_RETRY)
        except NotFound:
            return True
        except (ApiError, TransportError):
            return False
        ends = server.estimated_stopping_at
        return server.has_ended or (ends is not None and ends.timestamp() < self.api.now())

    # --- what is done ----------------------------------------------------------------------------

    def _find(self, row: MachineRow, *, is_patient: bool) -> str:
        """Return the machine of a launch that has no answer, and note it.

        Raises:
            MachineStartFailed: There is none.
            MachineLeak: Which one it is cannot be told.
        """
        self.say("a launch has no answer: looking for its machine")
        launch = Launch(
            api=self.api,
            workflow_version_id=row.workflow_version,
            server_type=row.server_type,
            lease_s=row.launched_for,
            on_launched=lambda _: None,
            prices=self.prices,
        )
        reason = ComfyloomError("the process that launched it is gone")
        known = row.known_servers
        if known is not None:
            # What another launch got is not this one's, whatever its duration.
            known |= self._named_since(row.intended_at)
        rest_s = SEARCH_FOR_S - max(0.0, self._age_s(row)) if is_patient else 0.0
        server = launch.find(known, reason, rest_s)
        self._write(lambda: self.machines.launched(row.key, server.server_id))
        return server.server_id

    def _named_since(self, at: float) -> frozenset[str]:
        try:
            return self.machines.named_since(at)
        except LedgerError as error:
            log.error("%s", error)
            return frozenset()

    def _stop(self, row: MachineRow, server_id: str, *, is_patient: bool) -> str:
        stopped = Stopping(
            api=self.api,
            server_id=server_id,
            server_type=row.server_type,
            prices=self.prices,
            # One that was found by its duration was just listed.
            seen=row.ready_at is not None or row.server_id is None,
            launched_at=self.api.clock.monotonic() - self._age_s(row),
            is_patient=False,
        ).confirm(LONGEST_STOP_S if is_patient else QUIET_STOP_S)
        self._write(lambda: self.machines.ended(row.key, self.api.now(), f"reaper: {stopped.by}"))
        return stopped.by

    def _write(self, write: Callable[[], object]) -> None:
        """Write something down; a ledger that cannot be written must not keep a machine running."""
        try:
            write()
        except LedgerError as error:
            log.error("%s", error)

    def _is_searched(self, row: MachineRow) -> bool:
        return self._age_s(row) >= SEARCH_FOR_S

    def _age_s(self, row: MachineRow) -> float:
        return self.api.now() - row.intended_at


def reap_quietly(reaper: Reaper) -> None:
    """Stop what others have left, as a session does when it begins: nothing of it may fail."""
    try:
        for orphan in reaper.orphans():
            reaped = reaper.reap(orphan, is_patient=False)
            _tell(reaped)
    except ComfyloomError as error:
        log.warning("what other processes left was not looked through: %s", error)


def _tell(reaped: Reaped) -> None:
    if reaped.outcome == "stopped":
        log.warning("machine %s was left behind (%s): stopped", reaped.server_id, reaped.orphan.why)
    elif isinstance(reaped.error, MachineLeak):
        log.error("%s", reaped.error)


def _state(file: Path) -> DevState | None:
    try:
        return StateFile(file).read()
    except LedgerError as error:
        log.warning("%s", error)
        return None
