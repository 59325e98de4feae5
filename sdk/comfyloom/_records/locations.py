"""Locations of records: the user's state folder, and the ledger of an account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfyloom._core.redact import register_secret
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._core.user_folders import NOWHERE, user_folder
from comfyloom.errors import ConfigError
from comfyloom.settings import Settings

if TYPE_CHECKING:
    from comfyloom._records.machine_records import MachineRecords


def guard_log_folder() -> Path:
    """Return the folder in which guard processes log what they did."""
    return (user_folder("state") or NOWHERE) / "guard"


def ledger_location(settings: Settings) -> str:
    """Return the path or URL of an account's ledger.

    Raises:
        ConfigError: None is set, and the user has no home folder.
    """
    if settings.ledger:
        return settings.ledger
    folder = user_folder("state")
    if folder is None:
        raise ConfigError(
            "no place for the ledger, in which rented machines are recorded: this user has no "
            "home folder. Set HOME, XDG_STATE_HOME or COMFYLOOM_LEDGER"
        )
    return str(folder / "ledger.db")


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
