"""Launched machines and their owners: alive, dead, or on another computer."""

from __future__ import annotations

import time
from typing import Any

import attrs

from comfyloom._records.machine_records import MachineRecords
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.owner import Owner
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator

HERE = Owner.current()
DEAD = attrs.evolve(HERE, started=1)
ELSEWHERE = attrs.evolve(HERE, boot_id="another", host="another")


def record_launch(
    emulator: Emulator, api: ServerApi, records: MachineRecords, **changes: Any
) -> MachineRow:
    """Launch a machine and record it as a dead owner's; keywords change what is recorded."""
    server = api.launch(emulator.workflow_version_id, "medium", 1234)
    values: dict[str, Any] = {
        "key": server.server_id,
        "kind": "session",
        "server_type": "medium",
        "workflow_version": emulator.workflow_version_id,
        "launched_for": 1234,
        "known_servers": frozenset(),
        "intended_at": time.time(),
        "state_file": "",
        "heartbeat_at": time.time(),
        "lease_s": 1234.0,
        "owner": DEAD,
        "server_id": server.server_id,
    }
    row = MachineRow(**{**values, **changes})
    records.record_intent(row)
    return row
