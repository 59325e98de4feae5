"""Every fault of the table: the right result or a typed error, and nothing else.

The table in docs/faults.md is the same, run more often by `python tests/faults/run.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from comfyloom.emulator import SCENARIOS, Emulator
from faults.trial import ERRORS, TIMEOUT_S, expected, try_out
from support import ROOT


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_under_a_fault(name: str, tmp_path: Path) -> None:
    trial = try_out(name, tmp_path / "out")
    assert trial.outcome == expected(name), trial.message
    assert trial.seconds < TIMEOUT_S
    assert trial.accepted <= 1
    assert (trial.left, trial.wrong, trial.threads) == ((), "", ())
    assert trial.unstruck == (), "the fault did not strike"
    assert "127.0.0.1" not in trial.message


def test_the_table_in_the_documentation_is_whole() -> None:
    page = (ROOT / "docs" / "faults.md").read_text("utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    listed = {row[1].strip("`"): row[2].strip("`") for row in rows if len(row) == 5}
    assert {name: listed.get(name) for name in SCENARIOS} == {
        name: expected(name) for name in SCENARIOS
    }
    assert "Second GPU runs: 0. Files left behind: 0." in page
    for name in ("README.md", "docs/running.md", "docs/emulator.md", "docs/faults.md"):
        assert str(len(SCENARIOS)) in (ROOT / name).read_text("utf-8"), name
    assert " 0 other outcomes" in page
    assert set(ERRORS) <= set(SCENARIOS)


def test_a_scenario_is_scripted_from_outside(emulator: Emulator) -> None:
    faults = f"{emulator.base_url}/_emulator/faults"
    requests.post(faults, json={"scenario": "run-restarted"}, timeout=30).raise_for_status()
    requests.post(
        faults, json=[{"kind": "prompt", "action": "delete", "after": 1}], timeout=5
    ).raise_for_status()
    shown = requests.get(faults, timeout=30).json()
    assert set(shown["scenarios"]) == set(SCENARIOS)
    assert [each["action"] for each in shown["pending"]] == ["restart", "delete"]
    assert len(emulator.faults.pending()) == 2
    for fault in shown["pending"]:  # what is listed can be added again
        requests.post(faults, data=json.dumps(fault), timeout=30).raise_for_status()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"scenario": "no-such"}, "no scenario 'no-such'; known scenarios: socket-dropped"),
        ({"scenario": "run-restarted", "times": 3}, "named alone"),
        ({"kind": "prompt", "action": "explode"}, "action"),
    ],
)
def test_a_scenario_that_is_none(emulator: Emulator, given: object, text: str) -> None:
    answer = requests.post(f"{emulator.base_url}/_emulator/faults", json=given, timeout=30)
    assert answer.status_code == 400
    assert text in answer.json()["message"]
    assert emulator.faults.pending() == []
