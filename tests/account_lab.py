"""An emulated account with records of one test alone, and the machines that were launched on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from comfyloom.emulator import Emulator, HttpFault
from comfyloom.settings import Settings


def account(emulator: Emulator, folder: Path, **changes: Any) -> Settings:
    """Return the settings of an emulator's account; its records are in a folder."""
    records = {"COMFYLOOM_STATE_FILE": "dev.json", "COMFYLOOM_LEDGER": "ledger.db"}
    files = {name: str(folder / file) for name, file in records.items()}
    return attrs.evolve(Settings.of_environment(emulator.environment() | files), **changes)


def launched(emulator: Emulator) -> list[tuple[str, str]]:
    """Return type and status of each machine, in the order of their launches."""
    return [(each["server_type"], each["status"]) for each in emulator.state()["machines"]]


def statuses(emulator: Emulator) -> list[str]:
    """Return the status of each machine, in the order of their launches."""
    return [status for _, status in launched(emulator)]


def launches(emulator: Emulator) -> int:
    """Return how many launches were asked for."""
    asked = emulator.state()["requests"]
    return sum(each["method"] == "POST" and each["path"].endswith("/servers") for each in asked)


def silence(emulator: Emulator, server_id: str, **fault: Any) -> None:
    """Make the ComfyUI of a machine unreachable, which the platform still calls Ready."""
    emulator.faults.add(HttpFault(path=f"/comfyui/{server_id}/", times=10_000, **fault))
