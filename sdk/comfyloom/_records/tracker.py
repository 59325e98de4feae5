"""What outlives this process of a machine: its row in the ledger, its place in the guard."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom._core.redact import log, register_secret
from comfyloom._guard.guard import Guard, Held, guard_of_process
from comfyloom._runcomfy.client import ServerApi, account_url
from comfyloom._runcomfy.models import Server
from comfyloom.errors import LedgerError
from comfyloom.settings import Settings

if TYPE_CHECKING:
    # Loaded when first used: a process that launches nothing never pays for it.
    from comfyloom._records.machine_records import Kind, MachineRecords

FILE: Final = "ledger.db"
JOURNALS: Final = "guard"


def state_folder() -> Path:
    """Return the user's folder for what must not be lost."""
    from platformdirs import user_state_path

    # The guard process is in another folder.
    return user_state_path("comfyloom", appauthor=False).absolute()


def records_of(settings: Settings) -> MachineRecords:
    """Return the machines of an account in its ledger; nothing is opened yet.

    Raises:
        ConfigError: The ledger is neither a file nor a PostgreSQL server.
    """
    from comfyloom._records.ledger import Ledger
    from comfyloom._records.machine_records import MachineRecords

    ledger = Ledger.of(settings.ledger or str(state_folder() / FILE))
    for secret in ledger.secrets:
        register_secret(secret)
    return MachineRecords(ledger=ledger, base_url=settings.api_base_url, user_id=settings.user_id)


@attrs.define(eq=False)
class NullTracker:
    """That of a machine which ends with this process: nothing outlives it.

    Attributes:
        is_guarded: Whether a guard process answers for the machine.
    """

    is_guarded: bool = attrs.field(default=False, init=False)

    def alone(self) -> AbstractContextManager[object]:
        """Keep other launches on the account out while its machines are counted."""
        return nullcontext()

    def intend(self, seconds: int, before: frozenset[str] | None, lease_s: float) -> None:
        """Note a launch that is about to be sent."""

    def launched(self, server_id: str) -> None:
        """Note which machine the launch gave."""

    def noted(self, server: Server) -> None:
        """Note that the platform has shown the machine, and when it became ready."""

    def beat(self) -> None:
        """Give a sign of life."""

    def stopping(self) -> None:
        """Note that the machine shall end."""

    def ended(self, by: str) -> None:
        """Note that the machine has ended, and what confirmed it."""

    def forget(self) -> None:
        """Let the guard forget the machine: it has ended, or somebody else answers for it."""

    def surrender(self) -> bool:
        """Let the guard go on with the stop; return whether there is one."""
        return False


@attrs.define(eq=False, kw_only=True)
class MachineTracker(NullTracker):
    """One machine, from the intent to launch it until its end is confirmed.

    Only the intent may fail: without it nothing is launched. All that comes later is told and
    passed over, because a record that cannot be written is no reason to lose a machine.

    Args:
        api: The account.
        settings: Its settings.
        machines: The ledger.
        kind: What the machine is for.
        server_type: The kind of machine.
        workflow_version: What is launched.
        state_file: For the dev server: the file that remembers it.
        guard: The guard process, None for none.
        key: SettingMeta the machine before it has an id.
    """

    api: ServerApi
    settings: Settings = attrs.field(repr=False)
    machines: MachineRecords
    kind: Kind
    server_type: str
    workflow_version: str = ""
    state_file: Path | None = None
    guard: Guard | None = attrs.field(factory=guard_of_process)
    key: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    _is_noted: bool = attrs.field(default=False, init=False)
    _is_ready: bool = attrs.field(default=False, init=False)

    def alone(self) -> AbstractContextManager[None]:
        """Keep other launches on the account out while its machines are counted.

        Raises:
            LedgerError: Somebody else launches for too long, or the ledger cannot be used.
        """
        return self.machines.ledger.alone(f"{self.machines.base_url} {self.machines.user_id}")

    def intend(self, seconds: int, before: frozenset[str] | None, lease_s: float) -> None:
        """Write down a launch that is about to be sent, and let the guard answer for it.

        Args:
            seconds: Its distinctive duration.
            before: The machines that were listed before it, None if that failed.
            lease_s: How long it may live without a sign of life of ours.

        Raises:
            LedgerError: It cannot be written down: nothing may be launched.
        """
        from comfyloom._records.machine_records import MachineRow
        from comfyloom._records.owner import Owner

        now = self.api.now()
        row = MachineRow(
            key=self.key,
            kind=self.kind,
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
        self.machines.intend(row)
        self._hold(seconds, before)

    def adopt(self, server_id: str, *, seen: bool) -> None:
        """Answer for a machine that another process launched, because it is to be stopped."""
        row = None
        try:
            row = self.machines.find(server_id)
        except LedgerError as error:
            log.warning("%s", error)
        if row is not None:
            self.key = row.key
        self._hold(0, None, server_id=server_id, seen=seen)

    def launched(self, server_id: str) -> None:
        """Note which machine the launch gave."""
        if self.guard is not None:
            self.guard.launched(self.key, server_id)
        self._write(lambda: self.machines.launched(self.key, server_id))

    def noted(self, server: Server) -> None:
        """Note that the platform has shown the machine, and when it became ready."""
        if not self._is_noted and self.guard is not None:
            self.guard.seen(self.key)
        self._is_noted = True
        if (ready := server.service_ready_at) is not None and not self._is_ready:
            self._is_ready = True
            self._write(lambda: self.machines.ready(self.key, ready.timestamp()))

    def beat(self) -> None:
        """Give a sign of life, and start the guard again if somebody has killed it."""
        self._write(lambda: self.machines.beat(self.key, self.api.now()))
        if self.guard is not None and not self.guard.check():
            self.is_guarded = False

    def stopping(self) -> None:
        """Note that the machine shall end."""
        from comfyloom._records.owner import Owner

        self._write(lambda: self.machines.stopping(self.key, self.api.now(), Owner.current()))

    def ended(self, by: str) -> None:
        """Note that the machine has ended, and what confirmed it."""
        self._write(lambda: self.machines.ended(self.key, self.api.now(), by))
        self.forget()

    def release(self) -> None:
        """Note that the machine shall not end after all, and let the guard forget it."""
        self._write(lambda: self.machines.unsettled(self.key))
        self.forget()

    def forget(self) -> None:
        """Let the guard forget the machine: it has ended, or somebody else answers for it."""
        if self.guard is not None:
            self.guard.forget(self.key)
        self.is_guarded = False

    def surrender(self) -> bool:
        """Let the guard go on with the stop; return whether there is one."""
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
        settings = self.settings
        held = Held(
            key=self.key,
            api=account_url(settings.api_base_url, settings.user_id),
            token=settings.api_token,
            server_type=self.server_type,
            seconds=seconds,
            before=before,
            journal=self._journal(),
            server_id=server_id,
            seen=seen,
        )
        self.is_guarded = self.guard.hold(held)

    def _journal(self) -> Path | None:
        folder = state_folder() / JOURNALS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.warning("cannot write %s: %s", folder, error.strerror or error)
            return None
        return folder / f"{self.key}.jsonl"

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except LedgerError as error:
            log.error("the machine's record is not kept up to date: %s", error)
