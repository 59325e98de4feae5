"""Locations of records: the user's state folder, and the ledger of an account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfyloom._core.redact import register_secret
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._records.machine_records import MachineRecords


def state_folder() -> Path:
    """Return the user's folder for persistent state."""
    from platformdirs import user_state_path

    # Absolute, because the guard process runs in another folder.
    return user_state_path("comfyloom", appauthor=False).absolute()


def guard_log_folder() -> Path:
    """Return the folder in which guard processes log what they did."""
    return state_folder() / "guard"


def ledger_location(settings: Settings) -> str:
    """Return the path or URL of an account's ledger."""
    return settings.ledger or str(state_folder() / "ledger.db")


def records_of(settings: Settings, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> MachineRecords:
    """Return the machine records of an account; nothing is opened yet.

    Raises:
        ConfigError: The ledger is neither a file nor a PostgreSQL server.
    """
    # Imported when first used: most processes do not need the database library.
    from comfyloom._records.ledger import Ledger
    from comfyloom._records.machine_records import MachineRecords

    ledger = Ledger.of(ledger_location(settings), timeouts)
    for secret in ledger.secrets:
        register_secret(secret)
    return MachineRecords(ledger=ledger, base_url=settings.api_base_url, user_id=settings.user_id)
