"""The reaper: what it takes for left behind, and what it never touches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom import RunComfySession
from comfyloom._machines.reaper import Reaper
from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._records.machine_records import MachineRecords
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.owner import Owner
from comfyloom._records.quick_check import may_have_other_machines
from comfyloom._records.tracker import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from comfyloom.errors import MachineError, MachineLeak, TransportError, Unauthorized
from comfyloom.settings import Settings
from shells import failed, shell_at
from support import HastyClock, running

HERE = Owner.current()
DEAD = attrs.evolve(HERE, started=1)
ELSEWHERE = attrs.evolve(HERE, boot_id="another", host="another")


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
    """Launch a machine and write it down; keywords change what is written."""

    def launch(**changes: Any) -> MachineRow:
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
        machines.record_intent(row)
        return row

    return launch


Launched = Callable[..., MachineRow]


def whys(reaper: Reaper) -> list[str]:
    return [orphan.why for orphan in reaper.orphans()]


# --- whose a machine is --------------------------------------------------------------------------


def test_a_dead_process(reaper: Reaper, launched: Launched) -> None:
    launched()
    (why,) = whys(reaper)
    assert why.endswith("is gone")


def test_a_process_that_lives(reaper: Reaper, launched: Launched) -> None:
    launched(owner=HERE, heartbeat_at=0.0)
    assert whys(reaper) == []


def test_a_process_of_another_computer_lives_as_long_as_it_gives_signs(
    reaper: Reaper, launched: Launched
) -> None:
    launched(owner=ELSEWHERE)
    assert whys(reaper) == []
    launched(owner=ELSEWHERE, heartbeat_at=time.time() - 1300.0)
    assert whys(reaper) == ["no sign of life for 22 min"]


def test_a_machine_of_a_pool_belongs_to_whoever_renews_it(
    reaper: Reaper, launched: Launched
) -> None:
    launched(kind="pool")
    assert whys(reaper) == []
    launched(kind="pool", owner=HERE, heartbeat_at=time.time() - 1300.0)
    assert len(whys(reaper)) == 1


def test_a_stop_that_nobody_sees_to(
    reaper: Reaper, machines: MachineRecords, launched: Launched
) -> None:
    row = launched(owner=HERE)
    machines.record_stopping(row.key, time.time(), HERE)
    assert whys(reaper) == []
    machines.record_stopping(row.key, time.time() - 61.0, HERE)
    assert whys(reaper) == ["its stop was not confirmed"]
    machines.record_stopping(row.key, time.time(), DEAD)
    assert whys(reaper) == ["its stop was not confirmed"]


def test_the_dev_server_belongs_to_the_file_that_names_it(
    reaper: Reaper, launched: Launched, tmp_path: Path
) -> None:
    file = StateFile(tmp_path / "dev.json")
    row = launched(kind="dev", state_file=str(file.path))
    assert whys(reaper) == ["no state file names it"]
    named = DevState(server_id=row.server_id or "", status="Ready", stopping_time=time.time() + 60)
    file.write(named)
    assert whys(reaper) == []
    file.write(attrs.evolve(named, server_id="another"))
    assert whys(reaper) == ["no state file names it"]
    file.path.write_text("garbage")
    assert whys(reaper) == []  # it may name it


def test_the_launch_of_a_dev_server_belongs_to_its_process(
    reaper: Reaper, machines: MachineRecords, launched: Launched, tmp_path: Path
) -> None:
    file = StateFile(tmp_path / "dev.json")
    file.write(DevState(status="Launching", launched_for=1234))
    launched(kind="dev", state_file=str(file.path), server_id=None, owner=HERE)
    assert whys(reaper) == []
    launched(kind="dev", state_file=str(file.path), server_id=None, key="dead")
    assert len(whys(reaper)) == 1


def test_a_dev_server_past_its_lease(
    reaper: Reaper, api: ServerApi, emulator: Emulator, launched: Launched, tmp_path: Path
) -> None:
    file = StateFile(tmp_path / "dev.json")
    row = launched(kind="dev", state_file=str(file.path))
    assert row.server_id is not None
    past = DevState(server_id=row.server_id, status="Ready", stopping_time=time.time() - 100)
    file.write(past)
    assert whys(reaper) == []  # somebody has made its lease longer: the platform says so
    emulator.steal(row.server_id)
    assert whys(reaper) == ["its lease is over"]


def test_a_dev_server_of_another_computer(
    emulator: Emulator, reaper: Reaper, launched: Launched, tmp_path: Path
) -> None:
    launched(kind="dev", state_file=str(tmp_path / "none"), owner=ELSEWHERE)
    assert whys(reaper) == []
    row = launched(
        kind="dev", state_file="/x/y", owner=ELSEWHERE, heartbeat_at=time.time() - 2000.0
    )
    assert whys(reaper) == []  # somebody has made its lease longer: the platform says so
    emulator.steal(row.server_id or "")
    assert whys(reaper) == ["its longest duration is over"]


def test_a_disk_that_is_not_there_condemns_no_dev_server(
    reaper: Reaper, launched: Launched, tmp_path: Path
) -> None:
    launched(kind="dev", state_file=str(tmp_path / "unmounted" / "dev.json"))
    assert whys(reaper) == []


def test_what_another_launch_got_is_not_this_ones(
    emulator: Emulator, reaper: Reaper, launched: Launched
) -> None:
    lost = launched(server_id=None, intended_at=time.time() - 1.0)
    emulator.steal(lost.key)
    living = launched(owner=HERE)
    (orphan,) = reaper.orphans()
    assert reaper.reap(orphan, is_quick=True).outcome == "left"
    assert running(emulator) == [living.server_id]


def test_a_launch_of_long_ago_is_over(
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
    """A machine that another computer renews must not seem dead because ours is an hour fast."""

    class Fast(HastyClock):
        def time(self) -> float:
            return super().time() + 3600.0

    launched(owner=ELSEWHERE)
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token, clock=Fast())
    assert Reaper(api=api, records=machines, folder=tmp_path).orphans() == []
    api.close()


def test_a_platform_out_of_reach_condemns_nobody(
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


def test_a_stop_of_the_dev_server_that_was_refused_changes_nothing(
    emulator: Emulator, reaper: Reaper, settings: Settings, dev: Any
) -> None:
    up = dev().up()
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=401))
    with pytest.raises(Unauthorized):
        dev().down()
    assert whys(reaper) == []
    (row,) = reaper.records.list_open()
    assert row.stopping_at is None
    assert dev().up().server_id == up.server_id


def test_a_dev_server_that_shall_end_is_not_used_again(
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


# --- what becomes of it --------------------------------------------------------------------------


def test_it_is_stopped_and_written_down(
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


def test_one_that_has_ended_already(emulator: Emulator, reaper: Reaper, launched: Launched) -> None:
    row = launched(ready_at=1.0)
    emulator.steal(row.server_id or "")
    (orphan,) = reaper.orphans()
    assert reaper.reap(orphan).outcome == "gone"


def test_a_launch_without_an_answer(emulator: Emulator, reaper: Reaper, launched: Launched) -> None:
    emulator.faults.add(MachineFault(action="unlisted", seconds=0.05))
    launched(server_id=None)
    foreign = emulator.launch_foreign("medium", 1235)
    (orphan,) = reaper.orphans()
    time.sleep(0.1)
    assert reaper.reap(orphan).outcome == "stopped"
    assert running(emulator) == [foreign]


def test_a_launch_that_gave_none(emulator: Emulator, reaper: Reaper, launched: Launched) -> None:
    row = launched(server_id=None)
    emulator.steal(row.key)
    (orphan,) = reaper.orphans()
    quick = reaper.reap(orphan, is_quick=True)
    assert quick.outcome == "left"  # it may yet appear: whoever comes next looks again
    assert len(reaper.orphans()) == 1
    assert reaper.reap(orphan).outcome == "never appeared"
    assert reaper.orphans() == []


def test_two_that_fit_are_left_and_named(
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


def test_what_the_guard_did_is_known(
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


# --- sessions and the command --------------------------------------------------------------------


def test_every_session_reaps(emulator: Emulator, settings: Settings, launched: Launched) -> None:
    left = launched()
    foreign = emulator.launch_foreign()
    with RunComfySession(settings=settings, clock=HastyClock()) as session:
        assert session.machine is not None
        assert left.server_id not in running(emulator)
        assert set(running(emulator)) == {foreign, session.machine.server_id}


def test_a_session_on_the_dev_server_reaps_too(
    emulator: Emulator, settings: Settings, dev: Any, launched: Launched
) -> None:
    up = dev().up()
    assert not may_have_other_machines(settings, up.server_id)
    left = launched()
    with RunComfySession(settings=settings, clock=HastyClock()):
        end = time.monotonic() + 10
        while left.server_id in running(emulator) and time.monotonic() < end:
            time.sleep(0.02)
    assert running(emulator) == [up.server_id]


def test_a_ledger_that_cannot_be_used_does_not_keep_a_session_from_the_dev_server(
    emulator: Emulator, settings: Settings, dev: Any, tmp_path: Path
) -> None:
    up = dev().up()
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    given = attrs.evolve(settings, ledger=str(broken))
    with RunComfySession(settings=given, clock=HastyClock()) as session:
        assert session.machine is not None
        assert session.machine.server_id == up.server_id


def test_the_command(
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
    (found,) = json.loads(dry.stdout)
    assert (found["server_id"], found["kind"]) == (row.server_id, "session")
    assert running(emulator) == [row.server_id]
    done = shell("machines", "reap", "--json", environ=environ)
    (reaped,) = json.loads(done.stdout)
    assert (reaped["outcome"], reaped["error"]) == ("stopped", None)
    assert running(emulator) == []


def test_the_doctor_tells_of_it(
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
def test_a_ledger_that_cannot_be_used_is_told(
    emulator: Emulator, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(b"no database" * 1000)
    shell = shell_at(tmp_path, {**emulator.environment(), "COMFYLOOM_LEDGER": str(file)})
    failed(shell(*command), 74, str(file), "machines list")
    wrong = {**emulator.environment(), "COMFYLOOM_LEDGER": "mysql://a:secret@b/c"}
    done = shell(*command, environ=wrong)
    failed(done, 78, "postgresql")
    assert "secret" not in done.stderr


def test_the_command_says_what_it_could_not_stop(
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
