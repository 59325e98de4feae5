"""The ledger: the same tests on SQLite and PostgreSQL, and damaged, locked or missing files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from sqlalchemy import text

from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._records.ledger import Ledger
from comfyloom._records.machine_records import MachineRecords
from comfyloom._records.machine_row import MachineRow
from comfyloom._records.owner import Owner
from comfyloom.errors import ConfigError, LedgerError, LedgerTooNew
from databases import WORD, postgres_server

IMPATIENT = Timeouts(ledger_busy_s=0.2, lock_s=0.2)
OWNER = Owner(host="here", machine="m", boot_id="b", namespace="n", pid=1, started=2)


def row(key: str = "k", **changes: object) -> MachineRow:
    values = {
        "key": key,
        "kind": "session",
        "server_type": "medium",
        "workflow_version": "v",
        "launched_for": 1234,
        "known_servers": frozenset({"a", "b"}),
        "intended_at": 100.0,
        "state_file": "",
        "heartbeat_at": 100.0,
        "lease_s": 1234.0,
        "owner": OWNER,
    }
    return MachineRow(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "deep" / "ledger.db")
    url: str = request.getfixturevalue("postgres")
    ledger = Ledger.of(url)
    schema = f"s{abs(hash(request.node.name))}"
    with ledger.connected() as connection:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    return f"{url}?options=-csearch_path={schema}"


@pytest.fixture
def machines(where: str) -> MachineRecords:
    return of(where)


def of(where: str, user: str = "me", timeouts: Timeouts = DEFAULT_TIMEOUTS) -> MachineRecords:
    ledger = Ledger.of(where, timeouts)
    return MachineRecords(ledger=ledger, base_url="https://api.example/", user_id=user)


# --- a machine's life ----------------------------------------------------------------------------


def test_a_written_row_is_read_back(machines: MachineRecords) -> None:
    written = row()
    machines.record_intent(written)
    assert machines.list_unended() == [written]
    assert written.is_unanswered


def test_a_failed_list_differs_from_an_empty_list(
    machines: MachineRecords,
) -> None:
    machines.record_intent(row("unknown", known_servers=None))
    machines.record_intent(row("none", known_servers=frozenset()))
    known = {each.key: each.known_servers for each in machines.list_unended()}
    assert known == {"unknown": None, "none": frozenset()}


def test_every_step_of_a_machine_is_recorded(machines: MachineRecords) -> None:
    machines.record_intent(row())
    machines.record_launched("k", "m-1")
    machines.record_ready("k", 200.0)
    machines.record_heartbeat("k", 260.0)
    stopper = attrs.evolve(OWNER, pid=77)
    machines.record_stopping("k", 400.0, stopper)
    (found,) = machines.list_unended()
    assert (found.server_id, found.ready_at, found.heartbeat_at) == ("m-1", 200.0, 260.0)
    assert (found.stopping_at, found.owner) == (400.0, stopper)
    assert machines.list_ids() == {"m-1"}
    machines.record_ended("k", 500.0, "deleted")
    assert machines.list_unended() == []
    ended = machines.find("m-1")
    assert ended is not None
    assert (ended.ended_at, ended.ended_by) == (500.0, "deleted")


def test_the_first_recorded_end_is_kept(machines: MachineRecords) -> None:
    machines.record_intent(row())
    machines.record_launched("k", "m-1")
    machines.record_ended("k", 500.0, "deleted")
    machines.record_ended("k", 900.0, "guard: not found")
    ended = machines.find("m-1")
    assert ended is not None
    assert ended.ended_by == "deleted"


def test_accounts_do_not_see_each_other(where: str) -> None:
    mine, other = of(where), of(where, "other-user")
    mine.record_intent(row())
    assert other.list_unended() == []
    other.record_ended("k", 1.0, "deleted")
    assert len(mine.list_unended()) == 1
    assert (
        mine.count_of_other_accounts(0.0),
        other.count_of_other_accounts(0.0),
        other.count_of_other_accounts(100.0),
    ) == (0, 1, 0)


def test_a_launch_is_found_by_its_duration(machines: MachineRecords) -> None:
    machines.record_intent(row("old", state_file="/p/dev.json", intended_at=1.0))
    machines.record_intent(row("new", state_file="/p/dev.json", intended_at=2.0))
    found = machines.find_launch("/p/dev.json", 1234)
    assert found is not None
    assert found.key == "new"
    assert machines.find_launch("/p/dev.json", 1235) is None


def test_concurrent_writers_lose_nothing(where: str) -> None:
    """Each of them also finds no tables, and creates them."""

    def live(number: int) -> None:
        machines = of(where)
        machines.record_intent(row(f"k{number}"))
        machines.record_launched(f"k{number}", f"m{number}")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(live, range(24)))
    assert len(of(where).list_ids()) == 24


def test_only_one_holder_at_a_time(where: str) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def enter(_: int) -> None:
        nonlocal inside, most
        with Ledger.of(where).exclusive("launch"):
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.02)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(enter, range(8)))
    assert most == 1


# --- versions ------------------------------------------------------------------------------------


def test_a_newer_ledger_is_not_touched(where: str) -> None:
    of(where).record_intent(row())
    newer = attrs.evolve(Ledger.of(where), version=2, migrations={1: []})
    with newer.connected():
        pass
    with pytest.raises(LedgerTooNew, match="version 2") as caught:
        of(where).list_unended()
    assert "upgrade" in str(caught.value)
    assert WORD not in str(caught.value)


def test_an_older_ledger_is_migrated(where: str) -> None:
    of(where).record_intent(row())
    steps = {
        1: ["ALTER TABLE machines ADD COLUMN colour TEXT"],
        2: ["UPDATE machines SET colour='red'"],
    }
    newer = attrs.evolve(Ledger.of(where), version=3, migrations=steps)
    with newer.connected() as connection:
        assert connection.execute(text("SELECT colour FROM machines")).scalar() == "red"
        assert connection.execute(text("SELECT version FROM comfyloom_schema")).scalar() == 3


def test_a_failed_migration_changes_nothing(where: str) -> None:
    of(where).record_intent(row())
    steps = {1: ["ALTER TABLE machines ADD COLUMN colour TEXT", "ALTER TABLE nothing ADD x TEXT"]}
    with (
        pytest.raises(LedgerError),
        attrs.evolve(Ledger.of(where), version=2, migrations=steps).connected(),
    ):
        pass
    with pytest.raises(LedgerError), Ledger.of(where).connected() as connection:
        connection.execute(text("SELECT colour FROM machines"))
    assert len(of(where).list_unended()) == 1


# --- a file that cannot be used ------------------------------------------------------------------


def test_the_file_is_readable_by_its_user_only(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ledger.db"
    of(str(file)).record_intent(row())
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def spoil(how: str, file: Path) -> None:
    if how == "garbage":
        file.write_bytes(b"not a database, " * 100)
    elif how == "cut":
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] + b"\0" * 5000)
    else:
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize("how", ["garbage", "cut", "folder"])
def test_a_file_that_is_not_a_ledger_is_an_error(tmp_path: Path, how: str) -> None:
    file = tmp_path / "ledger.db"
    of(str(file)).record_intent(row())
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for rest in tmp_path.glob("ledger.db-*"):
        rest.unlink()
    spoil(how, file)
    with pytest.raises(LedgerError) as caught:
        of(str(file)).list_unended()
    assert str(file) in str(caught.value)
    assert caught.value.path == str(file)


def test_a_locked_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    machines = of(str(file))
    machines.record_intent(row())
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="keeps it locked"):
        of(str(file), timeouts=IMPATIENT).record_intent(row("other"))
    blocker.execute("ROLLBACK")
    blocker.close()
    of(str(file)).record_intent(row("other"))


@pytest.mark.parametrize(
    "where", ["me:topsecret@127.0.0.1:1/db", "127.0.0.1:1/db?password=topsecret&user=u"]
)
def test_an_unreachable_server_is_an_error(where: str) -> None:
    with pytest.raises(LedgerError) as caught:
        of(f"postgresql://{where}").list_unended()
    assert Ledger.of(f"postgresql://{where}").secrets == ["topsecret"]
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "mysql://x/y",
        "https://example.com",
        "x://",
        "sqlite://",
        "sqlite:///x.db",
        "~no-such-user/x",
        "postgresql://u:pw@127.0.0.1:port/db",
        "postgresql://u:pw@[::1/db",
        "postgresql+psycopg_async://u:pw@127.0.0.1/db",
    ],
)
def test_an_invalid_ledger_setting_is_refused(where: str) -> None:
    with pytest.raises(ConfigError, match="postgresql"):
        Ledger.of(where)


KILLED = """
import os, sys
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._records.ledger import Ledger
from comfyloom._records.machine_records import MachineRecords
from test_ledger import of, row
machines = of(sys.argv[1])
for number in range(10**6):
    machines.record_intent(row(f"k{number}"))
    print(number, flush=True)
"""


def test_rows_reported_as_written_survive_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    here = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    )
    assert writer.stdout is not None
    last = [writer.stdout.readline() for _ in range(40)][-1]
    writer.send_signal(signal.SIGKILL)
    reported = [int(line) for line in (last + writer.stdout.read()).split()]
    writer.stdout.close()
    writer.wait()
    keys = {each.key for each in of(str(file)).list_unended()}
    assert {f"k{number}" for number in range(reported[-1] + 1)} <= keys


def test_a_table_locked_by_another_client_is_an_error(postgres: str) -> None:
    mine = of(postgres, "locked-out", IMPATIENT)
    mine.record_intent(row("locked-out"))
    with Ledger.of(postgres).connected() as blocker:
        blocker.exec_driver_sql("BEGIN")
        blocker.exec_driver_sql("LOCK TABLE machines IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerError):
            mine.record_heartbeat("locked-out", 1.0)
        blocker.exec_driver_sql("ROLLBACK")
    mine.record_heartbeat("locked-out", 1.0)


# --- owners --------------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[Callable[[], int]]:
    children: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        children.append(subprocess.Popen(["sleep", "60"]))
        return children[-1].pid

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_this_process_is_alive() -> None:
    assert Owner.current().lives
    assert Owner.current() == Owner.current()


def test_a_reused_pid_is_not_alive() -> None:
    assert attrs.evolve(Owner.current(), started=1).lives is False


def test_a_pid_without_a_process_is_not_alive(sleeper: Callable[[], int]) -> None:
    assert attrs.evolve(Owner.current(), pid=2**22 + 1).lives is False
    assert attrs.evolve(Owner.current(), pid=sleeper()).lives is False


def test_another_computer_of_the_same_name_is_not_this_one() -> None:
    assert Owner.current().is_here
    assert not attrs.evolve(Owner.current(), machine="another").is_here


def test_a_hidden_process_may_be_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when /proc is mounted so that it hides the processes of other users."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert attrs.evolve(Owner.current(), pid=2**22 + 1).lives is None


@pytest.mark.parametrize("change", [{"boot_id": "x"}, {"namespace": "x"}, {"boot_id": ""}])
def test_a_pid_of_another_computer_is_unknown(change: dict[str, str]) -> None:
    assert attrs.evolve(Owner.current(), **change).lives is None


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; os.abort()"], stderr=subprocess.DEVNULL
    )
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    assert attrs.evolve(Owner.current(), pid=child.pid, started=int(stat[19])).lives is False
    child.wait()
