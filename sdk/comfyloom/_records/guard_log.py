"""What guard processes did after the death of their owners."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from comfyloom._core.json import is_mapping, mapping, text
from comfyloom._core.redact import log
from comfyloom._records.machine_records import MachineRecords

_ENDS: Final = frozenset({"deleted", "not found", "never appeared"})
"""The outcomes that prove an end; after any other the machine may still run."""


@attrs.frozen(kw_only=True)
class Entry:
    """What a guard came to with one machine."""

    key: str
    server_id: str
    outcome: str


def fold(folder: Path, machines: MachineRecords, now: float) -> None:
    """Write into the ledger what the guards did, and delete their notes.

    Each note is about one machine of one account: those of other accounts stay.

    Raises:
        LedgerError: The ledger cannot be used; the notes stay.
    """
    waiting = {row.key for row in machines.open()}
    for file in folder.glob("*.jsonl"):
        if file.stem not in waiting:
            continue
        for entry in _entries(file):
            if entry.server_id:
                machines.launched(entry.key, entry.server_id)
            if entry.outcome in _ENDS:
                machines.ended(entry.key, now, f"guard: {entry.outcome}")
        with contextlib.suppress(OSError):  # what it says is folded once more, and changes nothing
            file.unlink()


def _entries(file: Path) -> Iterator[Entry]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return
    for line in lines:
        try:
            raw: object = json.loads(line)
        except ValueError:
            continue  # cut off, by a full disk
        if is_mapping(raw):
            fields = {name: text(mapping(raw).get(name)) or "" for name in attrs.fields_dict(Entry)}
            yield Entry(**fields)
