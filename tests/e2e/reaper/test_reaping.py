"""What the reaper does with orphans, in sessions and in the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import RunComfySession
from comfyloom._machines.reaper import Reaper
from comfyloom._records.machine_records import MachineRecords
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.quick_check import may_have_other_machines
from comfyloom._records.tracker import records_of
from comfyloom.emulator import Emulator, MachineFault
from comfyloom.errors import MachineLeak
from comfyloom.settings import Settings
from shells import failed, shell_at
from support import HastyClock, running

Launched = Callable[..., MachineRow]


# --- what becomes of an orphan --------------------------------------------------------------------


def test_an_orphan_is_stopped_and_recorded(
    emulator: Emulator, reaper: Reaper, machines: MachineRecords, launched: Launched
) -> None:
    foreign = emulator.launch_foreign("medium", 1234)
    row = launched()
    (orphan,) = reaper.orphans()
    assert reaper.reap(orphan).outcome == "stopped"
    assert running(emulator) == [foreign]
    assert row.server_id is not None
    ended = machines.find(row.server_id)
    assert ended is not None
    assert ended.ended_by == "reaper: deleted"
    assert reaper.orphans() == []


def test_an_orphan_that_has_ended_is_gone(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    row = launched(ready_at=1.0)
    emulator.steal(row.server_id or "")
    (orphan,) = reaper.orphans()
    assert reaper.reap(orphan).outcome == "gone"


def test_the_machine_of_an_unanswered_launch_is_stopped(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    emulator.faults.add(MachineFault(action="unlisted", seconds=0.05))
    launched(server_id=None)
    foreign = emulator.launch_foreign("medium", 1235)
    (orphan,) = reaper.orphans()
    time.sleep(0.1)
    assert reaper.reap(orphan).outcome == "stopped"
    assert running(emulator) == [foreign]


def test_a_launch_without_a_machine_is_closed_after_a_full_search(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    row = launched(server_id=None)
    emulator.steal(row.key)
    (orphan,) = reaper.orphans()
    quick = reaper.reap(orphan, is_quick=True)
    assert quick.outcome == "left"  # it may still appear: the next reaper looks again
    assert len(reaper.orphans()) == 1
    assert reaper.reap(orphan).outcome == "never appeared"
    assert reaper.orphans() == []


def test_two_matching_machines_are_left_and_named(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    row = launched(server_id=None)
    other = emulator.launch_foreign("medium", 1234)
    (orphan,) = reaper.orphans()
    reaped = reaper.reap(orphan)
    assert reaped.outcome == "left"
    assert isinstance(reaped.error, MachineLeak)
    assert other in str(reaped.error)
    assert row.key in str(reaped.error)
    assert set(running(emulator)) == {row.key, other}
    assert len(reaper.orphans()) == 1


def test_the_outcomes_of_the_guard_are_recorded(
    emulator: Emulator, reaper: Reaper, machines: MachineRecords, launched: Launched
) -> None:
    rows = [launched(key=key, server_id=None) for key in ("done", "gone", "given-up")]
    reaper.folder.mkdir()
    for row, outcome in zip(rows, ("deleted", "never appeared", "gave up"), strict=True):
        line = {"key": row.key, "server_id": f"m-{row.key}", "outcome": outcome, "at": 1.0}
        (reaper.folder / f"{row.key}.jsonl").write_text(json.dumps(line) + "\n{cut o")
    (reaper.folder / "of-another-account.jsonl").write_text("{}")
    assert [orphan.row.key for orphan in reaper.orphans()] == ["given-up"]
    ended = machines.find("m-done")
    assert ended is not None
    assert ended.ended_by == "guard: deleted"
    assert [each.name for each in reaper.folder.iterdir()] == ["of-another-account.jsonl"]


# --- sessions -------------------------------------------------------------------------------------


def test_every_session_reaps(emulator: Emulator, settings: Settings, launched: Launched) -> None:
    left = launched()
    foreign = emulator.launch_foreign()
    with RunComfySession(settings=settings, clock=HastyClock(), start=True) as session:
        assert session.machine is not None
        assert left.server_id not in running(emulator)
        assert set(running(emulator)) == {foreign, session.machine.server_id}


def test_a_session_on_the_dev_server_reaps_too(
    emulator: Emulator, settings: Settings, dev: Any, launched: Launched
) -> None:
    up = dev().up()
    assert not may_have_other_machines(settings, up.server_id)
    left = launched()
    with RunComfySession(settings=settings, clock=HastyClock(), start=True):
        end = time.monotonic() + 10
        while left.server_id in running(emulator) and time.monotonic() < end:
            time.sleep(0.02)
    assert running(emulator) == [up.server_id]


def test_a_broken_ledger_does_not_keep_a_session_from_the_dev_server(
    emulator: Emulator, settings: Settings, dev: Any, tmp_path: Path
) -> None:
    up = dev().up()
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 1000)
    given = attrs.evolve(settings, ledger=str(broken))
    with RunComfySession(settings=given, clock=HastyClock(), start=True) as session:
        assert session.machine is not None
        assert session.machine.server_id == up.server_id


# --- commands -------------------------------------------------------------------------------------


def test_the_command_lists_and_stops_orphans(
    emulator: Emulator, settings: Settings, launched: Launched, tmp_path: Path
) -> None:
    shell = shell_at(tmp_path, emulator.environment())
    given = {"COMFYLOOM_LEDGER": str(tmp_path / "ledger.db")}
    environ = {**emulator.environment(), **given}
    nothing = shell("machines", "reap", environ=environ)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "living owner" in nothing.stderr
    row = launched()
    records_of(attrs.evolve(settings, ledger=given["COMFYLOOM_LEDGER"])).record_intent(row)
    dry = shell("machines", "reap", "--dry-run", "--json", environ=environ)
    (found,) = json.loads(dry.stdout)["machines"]
    assert (found["server_id"], found["kind"]) == (row.server_id, "session")
    assert running(emulator) == [row.server_id]
    done = shell("machines", "reap", "--json", environ=environ)
    (reaped,) = json.loads(done.stdout)["machines"]
    assert (reaped["outcome"], reaped["error"]) == ("stopped", None)
    assert running(emulator) == []


def test_the_doctor_reports_orphans(
    emulator: Emulator, settings: Settings, launched: Launched, tmp_path: Path
) -> None:
    row = launched()
    ledger = str(tmp_path / "ledger.db")
    records_of(attrs.evolve(settings, ledger=ledger)).record_intent(row)
    shell = shell_at(tmp_path, {**emulator.environment(), "COMFYLOOM_LEDGER": ledger})
    found = shell("doctor").stdout
    assert "machines in use: 1" in found
    assert ledger not in found.split("token: accepted")[0]  # it might hold a password
    assert "has no living owner" in found
    assert "comfyloom machines reap" in found
    assert len(running(emulator)) == 1


@pytest.mark.parametrize("command", [("machines", "reap"), ("machines", "reap", "--dry-run")])
def test_the_command_reports_a_broken_ledger(
    emulator: Emulator, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(b"not a database" * 1000)
    shell = shell_at(tmp_path, {**emulator.environment(), "COMFYLOOM_LEDGER": str(file)})
    failed(shell(*command), 74, str(file), "machines list")
    wrong = {**emulator.environment(), "COMFYLOOM_LEDGER": "mysql://a:secret@b/c"}
    done = shell(*command, environ=wrong)
    failed(done, 78, "postgresql")
    assert "secret" not in done.stderr


def test_the_command_reports_what_it_could_not_stop(
    emulator: Emulator, settings: Settings, launched: Launched, tmp_path: Path
) -> None:
    row = launched(server_id=None)
    emulator.launch_foreign("medium", 1234)
    ledger = str(tmp_path / "ledger.db")
    records_of(attrs.evolve(settings, ledger=ledger)).record_intent(row)
    shell = shell_at(tmp_path, {**emulator.environment(), "COMFYLOOM_LEDGER": ledger})
    done = shell("machines", "reap")
    assert done.returncode == 69
    assert "may be its machine" in done.stderr
    assert ": left" in done.stdout
    assert len(running(emulator)) == 2
