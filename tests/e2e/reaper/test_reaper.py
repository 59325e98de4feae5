"""The reaper: which machines are orphans, and which it never touches."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom._machines.reaper import Reaper
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.machine_records import MachineRecords
from comfyloom._records.machine_row import MachineRow
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import MachineError, MachineLeak, TransportError, Unauthorized
from comfyloom.settings import Settings
from reaper_lab import DEAD, ELSEWHERE, HERE
from support import HastyClock, running

Launched = Callable[..., MachineRow]


def reasons(reaper: Reaper) -> list[str]:
    return [orphan.why for orphan in reaper.orphans()]


# --- owners that are processes --------------------------------------------------------------------


def test_the_machine_of_a_dead_process_is_an_orphan(reaper: Reaper, launched: Launched) -> None:
    launched()
    (why,) = reasons(reaper)
    assert why.endswith("is gone")


def test_the_machine_of_a_living_process_is_not_an_orphan(
    reaper: Reaper, launched: Launched
) -> None:
    launched(owner=HERE, heartbeat_at=0.0)
    assert reasons(reaper) == []


def test_a_process_on_another_computer_lives_while_its_heartbeat_is_fresh(
    reaper: Reaper, launched: Launched
) -> None:
    launched(owner=ELSEWHERE)
    assert reasons(reaper) == []
    launched(owner=ELSEWHERE, heartbeat_at=time.time() - 1300.0)
    assert reasons(reaper) == ["no sign of life for 22 min"]


def test_a_machine_of_a_pool_belongs_to_the_process_that_renews_it(
    reaper: Reaper, launched: Launched
) -> None:
    launched(kind="pool")
    assert reasons(reaper) == []
    launched(kind="pool", owner=HERE, heartbeat_at=time.time() - 1300.0)
    assert len(reasons(reaper)) == 1


def test_a_stop_that_is_not_confirmed_makes_an_orphan(
    reaper: Reaper, machines: MachineRecords, launched: Launched
) -> None:
    row = launched(owner=HERE)
    machines.record_stopping(row.key, time.time(), HERE)
    assert reasons(reaper) == []
    machines.record_stopping(row.key, time.time() - 61.0, HERE)
    assert reasons(reaper) == ["its stop was not confirmed"]
    machines.record_stopping(row.key, time.time(), DEAD)
    assert reasons(reaper) == ["its stop was not confirmed"]


def test_the_machine_of_another_launch_is_not_taken_for_a_lost_one(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    lost = launched(server_id=None, intended_at=time.time() - 1.0)
    emulator.steal(lost.key)
    living = launched(owner=HERE)
    (orphan,) = reaper.orphans()
    assert reaper.reap(orphan, is_quick=True).outcome == "left"
    assert running(emulator) == [living.server_id]


def test_an_old_launch_without_a_machine_is_closed(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    launched(server_id=None, intended_at=time.time() - 5 * 24 * 3600.0)
    (orphan,) = reaper.orphans()
    assert reaper.reap(orphan).outcome == "gone"
    assert len(running(emulator)) == 1
    assert reaper.orphans() == []


def test_the_clock_of_this_computer_does_not_count(
    settings: Settings, machines: MachineRecords, launched: Launched, tmp_path: Path
) -> None:
    """A machine renewed by another computer is not dead because our clock is an hour fast."""

    class Fast(HastyClock):
        def time(self) -> float:
            return super().time() + 3600.0

    launched(owner=ELSEWHERE)
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token, clock=Fast())
    assert Reaper(api=api, records=machines, folder=tmp_path).orphans() == []
    api.close()


def test_an_unreachable_platform_makes_no_orphans(
    emulator: Emulator,
    reaper: Reaper,
    launched: Launched,
    settings: Settings,
    machines: MachineRecords,
    tmp_path: Path,
) -> None:
    launched()
    emulator.faults.add(HttpFault(action="drop", times=10**6))
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token, clock=HastyClock())
    with pytest.raises(TransportError):
        Reaper(api=api, records=machines, folder=tmp_path).orphans()
    api.close()


# --- owners that are dev servers ------------------------------------------------------------------


def test_a_dev_server_belongs_to_the_state_file_that_names_it(
    reaper: Reaper, launched: Launched, tmp_path: Path
) -> None:
    file = StateFile(tmp_path / "dev.json")
    row = launched(kind="dev", state_file=str(file.path))
    assert reasons(reaper) == ["no state file names it"]
    named = DevState(server_id=row.server_id or "", status="Ready", stopping_time=time.time() + 60)
    file.write(named)
    assert reasons(reaper) == []
    file.write(attrs.evolve(named, server_id="another"))
    assert reasons(reaper) == ["no state file names it"]
    file.path.write_text("garbage")
    assert reasons(reaper) == []  # the file may name the machine


def test_the_launch_of_a_dev_server_belongs_to_its_process(
    reaper: Reaper, machines: MachineRecords, launched: Launched, tmp_path: Path
) -> None:
    file = StateFile(tmp_path / "dev.json")
    file.write(DevState(status="Launching", launched_for=1234))
    launched(kind="dev", state_file=str(file.path), server_id=None, owner=HERE)
    assert reasons(reaper) == []
    launched(kind="dev", state_file=str(file.path), server_id=None, key="dead")
    assert len(reasons(reaper)) == 1


def test_a_dev_server_past_its_lease_is_an_orphan(
    reaper: Reaper, api: ServerApi, emulator: Emulator, launched: Launched, tmp_path: Path
) -> None:
    file = StateFile(tmp_path / "dev.json")
    row = launched(kind="dev", state_file=str(file.path))
    assert row.server_id is not None
    past = DevState(server_id=row.server_id, status="Ready", stopping_time=time.time() - 100)
    file.write(past)
    assert reasons(reaper) == []  # by the platform its lease was extended
    emulator.steal(row.server_id)
    assert reasons(reaper) == ["its lease is over"]


def test_a_dev_server_of_another_computer_lives_until_its_longest_duration(
    emulator: Emulator, reaper: Reaper, launched: Launched, tmp_path: Path
) -> None:
    launched(kind="dev", state_file=str(tmp_path / "none"), owner=ELSEWHERE)
    assert reasons(reaper) == []
    row = launched(
        kind="dev", state_file="/x/y", owner=ELSEWHERE, heartbeat_at=time.time() - 2000.0
    )
    assert reasons(reaper) == []  # by the platform its lease was extended
    emulator.steal(row.server_id or "")
    assert reasons(reaper) == ["its longest duration is over"]


def test_a_missing_disk_makes_no_dev_server_an_orphan(
    reaper: Reaper, launched: Launched, tmp_path: Path
) -> None:
    launched(kind="dev", state_file=str(tmp_path / "unmounted" / "dev.json"))
    assert reasons(reaper) == []


def test_a_refused_stop_of_the_dev_server_changes_nothing(
    emulator: Emulator, reaper: Reaper, settings: Settings, dev: Any
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=401))
    with pytest.raises(Unauthorized):
        dev().down()
    assert reasons(reaper) == []
    (row,) = reaper.records.list_unended()
    assert row.stopping_at is None
    assert dev().up().server_id == up.server_id


def test_a_dev_server_that_is_being_stopped_is_not_used_again(
    emulator: Emulator, reaper: Reaper, dev: Any
) -> None:
    dev().up()
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=500, times=10**6))
    with pytest.raises(MachineLeak):
        dev().down()
    with pytest.raises(MachineError, match="is being stopped"):
        dev().up()
    emulator.faults.clear()
    dev().down()
    assert running(emulator) == []
