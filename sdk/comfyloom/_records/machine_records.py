"""The machines of one account in the ledger: what was intended, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs
from sqlalchemy import ColumnElement, func, select

from comfyloom._records.ledger import Ledger
from comfyloom._records.owner import Owner
from comfyloom._records.schema import MACHINES

Kind: TypeAlias = Literal["session", "dev", "pool"]


@attrs.frozen(kw_only=True)
class MachineRow:
    """One machine, from the intent to launch it to the proof of its end.

    Times are seconds since the epoch by the platform's clock.

    Attributes:
        key: SettingMeta it, also before the platform has given it an id.
        kind: What it is for: `session` belongs to its owner, `dev` to its state file, `pool` to
            whoever renews it.
        server_type: The kind of machine.
        workflow_version: What it was launched with.
        launched_for: The distinctive duration of its launch, in seconds.
        known_servers: The machines listed just before the launch, None if that failed.
        intended_at: When the launch was about to be sent.
        state_file: For `dev`: the file that remembers it, else "".
        server_id: Its id, None while the launch has no answer.
        ready_at: When it became ready and its billing began, None before.
        heartbeat_at: When its owner last gave a sign of life.
        lease_s: Without a sign of life for so long, the owner is dead and the lease over.
        stopping_at: When somebody decided that it shall end, None before.
        ended_at: When its end was confirmed, None before.
        ended_by: What confirmed it, "" before.
        owner: The process that launched it.
    """

    key: str
    kind: Kind
    server_type: str
    workflow_version: str
    launched_for: int
    known_servers: frozenset[str] | None
    intended_at: float
    state_file: str
    heartbeat_at: float
    lease_s: float
    owner: Owner
    server_id: str | None = None
    ready_at: float | None = None
    stopping_at: float | None = None
    ended_at: float | None = None
    ended_by: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its launch has no answer that was written down."""
        return self.server_id is None

    def is_overdue(self, now: float) -> bool:
        """Whether no sign of life came for longer than the lease."""
        return now - self.heartbeat_at > self.lease_s


def _bare(url: str) -> str:
    return url.rstrip("/")


@attrs.frozen(kw_only=True)
class MachineRecords:
    """The machines of one account: only its credentials may act on them.

    Every method raises `LedgerError` when the database cannot be used.

    Args:
        ledger: Where they are written down.
        base_url: The account's platform.
        user_id: The account's id.
    """

    ledger: Ledger
    base_url: str = attrs.field(converter=_bare)
    user_id: str

    def intend(self, row: MachineRow) -> None:
        """Write down that a machine is about to be launched."""
        values = attrs.asdict(row, recurse=False)
        del values["owner"]
        owner, known = row.owner, row.known_servers
        values |= {
            "base_url": self.base_url,
            "user_id": self.user_id,
            "known_servers": None if known is None else sorted(known),
            **_columns(owner),
        }
        with self.ledger.connected() as connection:
            connection.execute(MACHINES.insert().values(values))

    def launched(self, key: str, server_id: str) -> None:
        """Write down which machine a launch gave."""
        self._change(key, server_id=server_id)

    def ready(self, key: str, at: float) -> None:
        """Write down when a machine became ready."""
        self._change(key, ready_at=at)

    def beat(self, key: str, at: float) -> None:
        """Write down a sign of life of the owner."""
        self._change(key, heartbeat_at=at)

    def stopping(self, key: str, at: float, owner: Owner) -> None:
        """Write down that a machine shall end, and who sees to it: when they die, anybody may."""
        self._change(key, stopping_at=at, **_columns(owner))

    def ended(self, key: str, at: float, by: str) -> None:
        """Write down that a machine has ended, and what confirmed it; the first word counts."""
        self._change(key, ended_at=at, ended_by=by)

    def open(self) -> list[MachineRow]:
        """Return the machines whose end is not confirmed, the oldest first."""
        rows = select(MACHINES).where(self._mine, MACHINES.c.ended_at.is_(None))
        with self.ledger.connected() as connection:
            found = connection.execute(rows.order_by(MACHINES.c.intended_at, MACHINES.c.key))
            return [_row(each) for each in found.mappings()]

    def find(self, server_id: str) -> MachineRow | None:
        """Return what is known of a machine, None if nothing is."""
        rows = select(MACHINES).where(self._mine, MACHINES.c.server_id == server_id)
        with self.ledger.connected() as connection:
            found = connection.execute(rows.order_by(MACHINES.c.intended_at.desc()))
            return next((_row(each) for each in found.mappings()), None)

    def find_launch(self, state_file: str, launched_for: int) -> MachineRow | None:
        """Return the latest launch of a duration for a state file, None if there was none."""
        rows = select(MACHINES).where(
            self._mine,
            MACHINES.c.state_file == state_file,
            MACHINES.c.launched_for == launched_for,
        )
        with self.ledger.connected() as connection:
            found = connection.execute(rows.order_by(MACHINES.c.intended_at.desc()))
            return next((_row(each) for each in found.mappings()), None)

    def ids(self) -> frozenset[str]:
        """Return the ids of the machines whose end is not confirmed."""
        return frozenset(row.server_id for row in self.open() if row.server_id)

    def unsettled(self, key: str) -> None:
        """Write down that a machine shall not end after all."""
        self._change(key, stopping_at=None)

    def named_since(self, at: float) -> frozenset[str]:
        """Return the ids of all machines whose launch was intended since then, ended or not."""
        rows = select(MACHINES.c.server_id).where(
            self._mine, MACHINES.c.server_id.is_not(None), MACHINES.c.intended_at >= at
        )
        with self.ledger.connected() as connection:
            return frozenset(connection.execute(rows).scalars())

    def of_others(self, since: float) -> int:
        """Return how many machines of other accounts are not known to have ended.

        Args:
            since: Those that gave no sign of life after it are passed over: whatever their
                account, their lease has ended them.
        """
        rows = select(func.count()).where(
            ~self._mine, MACHINES.c.ended_at.is_(None), MACHINES.c.heartbeat_at > since
        )
        with self.ledger.connected() as connection:
            return int(connection.execute(rows).scalar_one())

    @property
    def _mine(self) -> ColumnElement[bool]:
        return (MACHINES.c.base_url == self.base_url) & (MACHINES.c.user_id == self.user_id)

    def _change(self, key: str, **values: object) -> None:
        is_it = self._mine & (MACHINES.c.key == key) & MACHINES.c.ended_at.is_(None)
        with self.ledger.connected() as connection:
            connection.execute(MACHINES.update().where(is_it).values(values))


def _columns(owner: Owner) -> dict[str, object]:
    return {f"owner_{name}": value for name, value in attrs.asdict(owner).items()}


def _row(columns: Mapping[Any, Any]) -> MachineRow:
    names = {field.name for field in attrs.fields(MachineRow)} - {"owner"}
    values = {name: columns[name] for name in names}
    known = values["known_servers"]
    values["known_servers"] = None if known is None else frozenset(known)
    values["ended_by"] = values["ended_by"] or ""
    owner = {name: columns[f"owner_{name}"] for name in attrs.fields_dict(Owner)}
    return MachineRow(**values, owner=Owner(**owner))
