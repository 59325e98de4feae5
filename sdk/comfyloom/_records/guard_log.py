"""The logs of guard processes: what they did after their owners died."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom._core.json import is_mapping, text
from comfyloom._core.redact import log

if TYPE_CHECKING:
    from comfyloom._records.machine_records import MachineRecords

_ENDS: Final = frozenset({"deleted", "not found", "never appeared"})
"""The outcomes that prove an end; after any other the machine may still run."""


@attrs.frozen(kw_only=True)
class GuardLogEntry:
    """The outcome of a guard for one machine."""

    key: str
    server_id: str
    outcome: str


def fold_guard_logs(folder: Path, records: MachineRecords, now: float) -> None:
    """Record in the ledger what the guards did, and delete their logs.

    Each log is about one machine of one account; logs of other accounts stay.

    Raises:
        LedgerError: The ledger cannot be used; the logs stay.
    """
    waiting = {row.key for row in records.list_unended()}
    for file in folder.glob("*.jsonl"):
        if file.stem not in waiting:
            continue
        for entry in _entries(file):
            if entry.server_id:
                records.record_launched(entry.key, entry.server_id)
            if entry.outcome in _ENDS:
                records.record_ended(entry.key, now, f"guard: {entry.outcome}")
        with contextlib.suppress(OSError):  # folding it again is harmless
            file.unlink()


def _entries(file: Path) -> Iterator[GuardLogEntry]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return
    for line in lines:
        try:
            raw: object = json.loads(line)
        except ValueError:
            continue  # cut off by a full disk
        if is_mapping(raw):
            names = attrs.fields_dict(GuardLogEntry)
            yield GuardLogEntry(**{name: text(raw.get(name)) or "" for name in names})
