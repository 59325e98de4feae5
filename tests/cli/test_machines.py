"""`comfyloom machines`: what is listed, shown, stopped, extended and reaped."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from cli.conftest import Comfyloom
from comfyloom._machines.account_machines import Rented
from comfyloom._records.owner import Owner
from comfyloom._records.tracker import records_of
from comfyloom._runcomfy.client import ServerApi
from comfyloom._runcomfy.models import Server
from comfyloom.cli import machines
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.settings import Settings
from reaper_lab import DEAD, record_launch
from support import running


def rented(name: str, *, price: str | None = "0.99", left_s: float | None = 60.0) -> Rented:
    return Rented(
        server=Server(server_id=name, server_type="medium", current_status="Ready"),
        whose="others",
        uptime_s=3600.0,
        left_s=left_s,
        price=None if price is None else Decimal(price),
        cost=None if price is None else Decimal(price),
    )


@pytest.mark.usefixtures("account")
def test_an_account_without_machines(comfyloom: Comfyloom) -> None:
    done = comfyloom("machines", "list")
    assert (done.code, done.out, done.err) == (0, "", "no machines\n")
    found = json.loads(comfyloom("machines", "list", "--json").out)
    assert found == {"ok": True, "machines": []}


def test_what_is_not_known_is_a_question_mark(capsys: pytest.CaptureFixture[str]) -> None:
    machines.print_machines([rented("s-1"), rented("s-2", price=None, left_s=None)])
    table, total = capsys.readouterr()
    known, unknown = table.splitlines()[1:]
    assert known.split() == [
        "s-1",
        "medium",
        "Ready",
        "60",
        "min",
        "60",
        "s",
        "0.99",
        "0.99",
        "others",
    ]
    assert unknown.split() == ["s-2", "medium", "Ready", "60", "min", "?", "?", "?", "others"]
    assert total == "2 machines, 0.99 USD an hour, and 1 at an unknown price\n"


def test_only_unknown_prices_are_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    machines.print_machines([rented("s-1", price=None)])
    assert capsys.readouterr().err == "1 machine, at an unknown price\n"


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        (["aaaaaaaa-1111", "bbbbbbbb-1111"], ["aaaaaaaa", "bbbbbbbb"]),
        (["aaaaaaaa-1111", "aaaaaaaa-2222"], ["aaaaaaaa-1", "aaaaaaaa-2"]),
        (["same", "same"], ["same", "same"]),
    ],
)
def test_ids_are_shortened_on_a_narrow_terminal_but_stay_unique(
    ids: list[str], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @attrs.frozen
    class Screen:
        width: int

    monkeypatch.setattr(machines, "console", lambda **_: Screen(80))
    assert machines.display_ids(ids, stderr=False) == shown
    monkeypatch.setattr(machines, "console", lambda **_: Screen(120))
    assert machines.display_ids(ids, stderr=False) == ids


def test_show_has_no_url(account: Emulator, comfyloom: Comfyloom) -> None:
    server_id = account.launch_foreign("large", 1800)
    done = comfyloom("machines", "show", server_id[:6])
    assert done.code == 0
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines() if "  " in line)
    assert lines["machine"] == server_id
    assert lines["type"] == "large, 1.75 USD an hour"
    assert "launched by  others" in done.out
    assert "127.0.0.1" not in done.out
    found = json.loads(comfyloom("machines", "show", server_id, "--json").out)
    assert found["server_id"] == server_id
    assert not any("url" in name for name in found)


def test_a_name_that_is_too_short_unknown_or_ambiguous(
    account: Emulator, comfyloom: Comfyloom, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = account.launch_foreign()
    short = comfyloom("machines", "show", server_id[:3])
    assert short.code == 69
    assert "give at least 4 characters" in short.err
    unknown = comfyloom("machines", "show", "zzzz")
    assert f"the account has no machine zzzz (it has: {server_id})" in unknown.err
    missing = str(uuid.uuid4())
    assert f"no machine {missing}" in comfyloom("machines", "show", missing).err
    twins = [Server(server_id="abcd-1"), Server(server_id="abcd-2"), Server(server_id="abcd")]
    monkeypatch.setattr(ServerApi, "list_servers", lambda *_, **__: twins[:2])
    ambiguous = comfyloom("machines", "stop", "abcd")
    assert "abcd is ambiguous (abcd-1, abcd-2): give more of the id" in ambiguous.err
    monkeypatch.setattr(ServerApi, "list_servers", lambda *_, **__: twins)
    exact = comfyloom("machines", "extend", "abcd", "60")
    assert "machine abcd cannot be extended (state: unknown)" in exact.err
    assert len(running(account)) == 1


def test_stop_takes_ids_or_all_mine_but_not_both(account: Emulator, comfyloom: Comfyloom) -> None:
    server_id = account.launch_foreign()
    for arguments in ((), (server_id, "--all-mine")):
        done = comfyloom("machines", "stop", *arguments, "--yes")
        assert done.code == 64
        assert "give either the id of each machine, or --all-mine" in done.err
    assert running(account) == [server_id]


def test_one_machine_that_cannot_be_stopped_does_not_keep_the_others(
    account: Emulator, comfyloom: Comfyloom
) -> None:
    server_id = account.launch_foreign()
    done = comfyloom("machines", "stop", "none-1", server_id, "none-2")
    assert done.code == 69
    assert done.out == f"{server_id} stopped\n"
    lines = done.err.splitlines()
    assert len(lines) == 2
    assert "no machine none-2" in lines[0]
    assert "no machine none-1" in lines[1]
    assert running(account) == []
    report = comfyloom("machines", "stop", "none-1", server_id, "--json")
    found = json.loads(report.out)
    assert not found["ok"]
    assert found["error"]["code"] == "MachineError"
    first, second = found["machines"]
    assert (first["server_id"], first["stopped"]) == ("none-1", False)
    assert "no machine" in first["error"]
    assert not second["stopped"]
    assert report.err.count("comfyloom: ") == 1


def test_a_refused_stop_names_the_token_and_leaves_the_machine(
    account: Emulator, comfyloom: Comfyloom
) -> None:
    server_id = account.launch_foreign()
    account.faults.add(HttpFault(method="DELETE", path="/servers/", status=401, times=1))
    done = comfyloom("machines", "stop", server_id)
    assert done.code == 77
    assert "token" in done.err
    assert running(account) == [server_id]


def test_extend_reports_what_it_may_cost(account: Emulator, comfyloom: Comfyloom) -> None:
    server_id = account.launch_foreign("large", 1800)
    done = comfyloom("machines", "extend", server_id[:8], "30m")
    assert done.code == 0
    assert "30 min more, at most 0.8750 USD" in done.err
    shown = json.loads(comfyloom("machines", "show", server_id, "--json").out)
    assert shown["estimated_duration"] == 3600
    assert comfyloom("machines", "extend", server_id, "soon").code == 64


# --- reap ----------------------------------------------------------------------------------------


@pytest.fixture
def orphan(account: Emulator) -> str:
    """A machine whose process is dead."""
    settings = Settings.load()
    with ServerApi.of(settings) as api:
        return record_launch(account, api, records_of(settings), owner=DEAD).server_id


def test_a_dry_run_only_lists(account: Emulator, comfyloom: Comfyloom, orphan: str) -> None:
    done = comfyloom("machines", "reap", "--dry-run")
    assert done.code == 0
    assert done.out.startswith(f"{orphan}  session, medium: ")
    (row,) = json.loads(comfyloom("machines", "reap", "--dry-run", "--json").out)["machines"]
    assert set(row) == {"server_id", "kind", "server_type", "owner", "why"}
    assert row["server_id"] == orphan
    assert running(account) == [orphan]


def test_reap_stops_and_reports(account: Emulator, comfyloom: Comfyloom, orphan: str) -> None:
    done = comfyloom("machines", "reap")
    assert done.code == 0
    assert done.out.startswith(f"{orphan}  session, medium: ")
    assert done.out.endswith(": stopped\n")
    assert running(account) == []
    again = comfyloom("machines", "reap")
    assert (again.code, again.out) == (0, "")
    assert "every machine has a living owner" in again.err


def test_reap_as_json_has_the_outcome(account: Emulator, comfyloom: Comfyloom, orphan: str) -> None:
    (row,) = json.loads(comfyloom("machines", "reap", "--json").out)["machines"]
    assert (row["server_id"], row["outcome"], row["error"]) == (orphan, "stopped", None)
    assert running(account) == []


def test_the_orphans_of_other_accounts_are_only_counted(
    account: Emulator, comfyloom: Comfyloom, orphan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator(time="real", startup_s=0.0, rate_limit=None) as other:
        for name, value in other.environment().items():
            monkeypatch.setenv(name, value)
        done = comfyloom("machines", "reap")
    assert done.code == 0
    assert "1 of other accounts may be running: reap them with their credentials" in done.err
    assert running(account) == [orphan]


def test_a_living_owner_keeps_its_machine(account: Emulator, comfyloom: Comfyloom) -> None:
    settings = Settings.load()
    with ServerApi.of(settings) as api:
        record_launch(account, api, records_of(settings), owner=Owner.current())
    assert "every machine has a living owner" in comfyloom("machines", "reap").err
    assert len(running(account)) == 1


def test_the_ledger_is_where_the_settings_say(
    account: Emulator, comfyloom: Comfyloom, orphan: str, here: Path
) -> None:
    assert account.base_url
    assert orphan
    assert (here / "ledger.db").is_file()
    (here / "ledger.db").rename(here / "elsewhere.db")
    assert "every machine has a living owner" in comfyloom("machines", "reap").err
