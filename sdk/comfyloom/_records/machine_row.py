"""One machine in the ledger, as data, without the database library, which imports slowly."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from comfyloom._records.owner import Owner

MachinePurpose: TypeAlias = Literal["session", "dev", "pool"]


@attrs.frozen(kw_only=True)
class MachineRow:
    """One machine, from the intent to launch it to the proof of its end.

    Times are seconds since the epoch by the platform's clock.

    Attributes:
        key: Identifies it, also before it has an id of the platform.
        kind: Its purpose: `session` belongs to its owner, `dev` to its state file, `pool` to the
            process that renews it.
        server_type: The machine type.
        workflow_version: What it was launched with.
        launched_for: The distinctive duration of its launch, in seconds.
        known_servers: The machines listed just before the launch, None if that failed.
        intended_at: When the launch was about to be sent.
        state_file: For `dev`: its state file, else "".
        server_id: Its id, None while the launch has no answer.
        ready_at: When it became ready and its billing began, None before.
        heartbeat_at: When its owner last recorded a heartbeat.
        lease_s: Without a heartbeat for this long, the owner is dead and the lease over.
        stopping_at: When its stop was requested, None before.
        ended_at: When its end was confirmed, None before.
        ended_by: What confirmed it, "" before.
        owner: The process that launched it.
    """

    key: str
    kind: MachinePurpose
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
    def is_unanswered(self) -> bool:
        """Whether no answer to its launch is recorded."""
        return self.server_id is None

    def is_overdue(self, now: float) -> bool:
        """Whether the last heartbeat is older than the lease."""
        return now - self.heartbeat_at > self.lease_s
