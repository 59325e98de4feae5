"""A reaper, and machines for it whose owners are gone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfyloom._machines.reaper import Reaper
from comfyloom._records.machine_records import MachineRecords
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.tracker import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator
from comfyloom.settings import Settings
from reaper_lab import record_launch


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, rate_limit=None) as found:
        yield found


@pytest.fixture
def machines(settings: Settings) -> MachineRecords:
    return records_of(settings)


@pytest.fixture
def reaper(api: ServerApi, machines: MachineRecords, tmp_path: Path) -> Reaper:
    return Reaper(api=api, records=machines, folder=tmp_path / "guard")


@pytest.fixture
def launched(
    emulator: Emulator, api: ServerApi, machines: MachineRecords
) -> Callable[..., MachineRow]:
    """Record a launch, and really launch it."""
    return functools.partial(record_launch, emulator, api, machines)
