"""How the commands read and write times, money, tables and JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
import pytest

from comfyloom.cli.json_output import print_json
from comfyloom.cli.run import _printable, _short_path
from comfyloom.cli.shared import Duration, print_pairs, print_table, span, usd


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not known"),
        (0.0, "0 s"),
        (48.4, "48 s"),
        (119.4, "119 s"),
        (119.5, "2 min"),
        (3599.0, "60 min"),
        (7169.0, "119 min"),
        (7170.0, "2 h 00 min"),
        (3840.0 * 2, "2 h 08 min"),
        (360_000.0, "100 h 00 min"),
    ],
)
def test_a_span_has_the_unit_that_a_person_would_choose(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_an_unknown_amount_is_not_zero() -> None:
    assert usd(None) == "price not known"
    assert usd(Decimal(0)) == "0.0000 USD"
    assert usd(Decimal("1.23456")) == "1.2346 USD"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1h30m", 5400.0), ("2min", 120.0), (" 1.5h ", 5400.0)]
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1d", "-90", "1h x", "59", "721h", "1e9", "nan"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_the_shortest_duration_is_an_option() -> None:
    assert Duration(least_s=1).convert("1", None, None) == 1.0
    with pytest.raises(click.BadParameter, match="not between 5 s and 30 days"):
        Duration(least_s=5).convert("4", None, None)


def test_json_has_money_and_times_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    print_json({"cost": Decimal("0.10"), "at": moment, "path": Path("a/b")})
    found = json.loads(capsys.readouterr().out)
    assert found == {"ok": True, "cost": "0.10", "at": "2026-11-27T12:00:00+00:00", "path": "a/b"}


def test_pairs_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs({"a": "1", "longer": "2"}, {"a": "red"})
    plain = click.unstyle(capsys.readouterr().out)
    assert plain.splitlines() == ["a       1", "longer  2"]


def test_a_table_in_a_pipe_is_neither_wrapped_nor_padded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.table import Table

    table = Table(box=None)
    for name in ("one", "two"):
        table.add_column(name)
    table.add_row("x" * 150, "y")
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["x" * 150, "y"]
    assert all(line == line.rstrip() for line in lines)


def test_control_characters_of_a_result_are_not_sent_to_the_terminal() -> None:
    assert _printable("a\x1b[31mb\u202ec\nd") == "a\\x1b[31mb\\u202ec\nd"
    assert _printable({"ü": [1, None]}) == '{"ü": [1, null]}'


def test_a_path_below_the_current_folder_is_shown_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert _short_path(inside / "out" / "a.png") == "out/a.png"
    assert _short_path(tmp_path / "a.png") == str(tmp_path / "a.png")
    inside.rmdir()
    assert _short_path(tmp_path / "a.png") == str(tmp_path / "a.png")
