"""`nox -s live` itself, tried on the emulator: it asks, it is capped, and its record is clean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyloom.emulator import Emulator
from shells import bare_environment
from support import ROOT, machines


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, run_s=0.2) as running:
        yield running


def live(
    folder: Path, environ: dict[str, str], *arguments: str, answer: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/live/live.py"), "--out", "live", *arguments],
        env=bare_environment(folder) | environ,
        cwd=folder,
        input=answer,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_it_launches_runs_stops_and_writes_what_was_answered(
    emulator: Emulator, tmp_path: Path
) -> None:
    done = live(tmp_path, emulator.environment(), answer="y\n")
    assert done.returncode == 0, done.stderr
    assert "medium machine (0.99 USD an hour)" in done.stdout
    (machine,) = machines(emulator)
    assert machine["stopped_at"]
    (written,) = (tmp_path / "live").glob("answers-*.json")
    text = written.read_text()
    secrets = (emulator.token, emulator.user_id, machine["server_id"], emulator.workflow_version_id)
    for secret in (*secrets, f"{emulator.base_url}/comfyui"):
        assert secret not in text + done.stdout.replace(emulator.base_url, "")
    record = json.loads(text)
    assert record["comfyui"]["comfyui_version"] == "0.3.64"
    requests = [answer["request"].partition(" ")[0] for answer in record["answers"]]
    assert {"GET", "POST", "DELETE"} <= set(requests)


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_it_asks_first(emulator: Emulator, tmp_path: Path, answer: str) -> None:
    assert live(tmp_path, emulator.environment(), answer=answer).returncode != 0
    assert machines(emulator) == []


def test_without_an_account_it_is_skipped(tmp_path: Path) -> None:
    done = live(tmp_path, {})
    assert done.returncode == 0
    assert "skipped" in done.stdout


@pytest.mark.parametrize(("kind", "word"), [("2xl-turbo", "1.00 USD"), ("h200", "not known")])
def test_what_could_cost_too_much_is_refused(
    emulator: Emulator, tmp_path: Path, kind: str, word: str
) -> None:
    done = live(tmp_path, emulator.environment(), "--yes", "--server-type", kind)
    assert done.returncode == 2
    assert word in done.stderr
    assert machines(emulator) == []
