"""The machines of one account in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from sqlalchemy import ColumnElement, func, select

from comfyloom._records.ledger import Ledger
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.owner import Owner
from comfyloom._records.schema import MACHINES


def _bare(url: str) -> str:
    return url.rstrip("/")


@attrs.frozen(kw_only=True)
class MachineRecords:
    """The machines of one account: only its credentials may act on them.

    Every method raises `LedgerError` when the database cannot be used.
    """

    ledger: Ledger
    base_url: str = attrs.field(converter=_bare)
    user_id: str

    def record_intent(self, row: MachineRow) -> None:
        """Record that a machine is about to be launched."""
        known = row.known_servers
        values = attrs.asdict(row, recurse=False) | _columns(row.owner)
        values |= {"base_url": self.base_url, "user_id": self.user_id}
        values["known_servers"] = None if known is None else sorted(known)
        del values["owner"]
        with self.ledger.connected() as connection:
            connection.execute(MACHINES.insert().values(values))

    def record_launched(self, key: str, server_id: str) -> None:
        """Record which machine a launch gave."""
        self._change(key, server_id=server_id)

    def record_ready(self, key: str, at: float) -> None:
        """Record when a machine became ready."""
        self._change(key, ready_at=at)

    def record_heartbeat(self, key: str, at: float) -> None:
        """Record a heartbeat of the owner."""
        self._change(key, heartbeat_at=at)

    def record_stopping(self, key: str, at: float, owner: Owner) -> None:
        """Record that a machine is being stopped, and by which process."""
        self._change(key, stopping_at=at, **_columns(owner))

    def record_ended(self, key: str, at: float, by: str) -> None:
        """Record that a machine has ended, and what confirmed it; the first record counts."""
        self._change(key, ended_at=at, ended_by=by)

    def list_unended(self) -> list[MachineRow]:
        """Return the machines whose end is not confirmed, the oldest first."""
        rows = select(MACHINES).where(self._mine, MACHINES.c.ended_at.is_(None))
        with self.ledger.connected() as connection:
            found = connection.execute(rows.order_by(MACHINES.c.intended_at, MACHINES.c.key))
            return [_row(each) for each in found.mappings()]

    def find(self, server_id: str) -> MachineRow | None:
        """Return the latest row of a machine, None if there is none."""
        return self._latest(MACHINES.c.server_id == server_id)

    def find_launch(self, state_file: str, launched_for: int) -> MachineRow | None:
        """Return the latest launch of a duration for a state file, None if there was none."""
        is_file = MACHINES.c.state_file == state_file
        return self._latest(is_file & (MACHINES.c.launched_for == launched_for))

    def list_ids(self) -> frozenset[str]:
        """Return the ids of the machines whose end is not confirmed."""
        return frozenset(row.server_id for row in self.list_unended() if row.server_id)

    def list_start_times(self, server_type: str, latest: int) -> list[float]:
        """Return the seconds from launch to Ready of the latest machines of a type."""
        times = (MACHINES.c.ready_at - MACHINES.c.intended_at).label("start_s")
        is_known = MACHINES.c.ready_at.is_not(None) & (MACHINES.c.server_type == server_type)
        rows = select(times).where(self._mine, is_known).order_by(MACHINES.c.intended_at.desc())
        with self.ledger.connected() as connection:
            return [float(each) for each in connection.execute(rows.limit(latest)).scalars()]

    def clear_stopping(self, key: str) -> None:
        """Record that a machine is not being stopped after all."""
        self._change(key, stopping_at=None)

    def ids_since(self, at: float) -> frozenset[str]:
        """Return the ids of all machines launched since then, ended or not."""
        rows = select(MACHINES.c.server_id).where(
            self._mine, MACHINES.c.server_id.is_not(None), MACHINES.c.intended_at >= at
        )
        with self.ledger.connected() as connection:
            return frozenset(connection.execute(rows).scalars())

    def count_of_other_accounts(self, since: float) -> int:
        """Return the number of open machines of other accounts with a heartbeat after `since`.

        Older ones do not count: their lease has ended them.
        """
        rows = select(func.count()).where(
            ~self._mine, MACHINES.c.ended_at.is_(None), MACHINES.c.heartbeat_at > since
        )
        with self.ledger.connected() as connection:
            return int(connection.execute(rows).scalar_one())

    @property
    def _mine(self) -> ColumnElement[bool]:
        return (MACHINES.c.base_url == self.base_url) & (MACHINES.c.user_id == self.user_id)

    def _latest(self, condition: ColumnElement[bool]) -> MachineRow | None:
        rows = select(MACHINES).where(self._mine, condition)
        with self.ledger.connected() as connection:
            found = connection.execute(rows.order_by(MACHINES.c.intended_at.desc()))
            return next((_row(each) for each in found.mappings()), None)

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
