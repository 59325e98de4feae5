"""The command line inside the test process: fast, and with a debugger's view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from comfyloom.cli.main import invoke
from comfyloom.emulator import Emulator


@attrs.frozen
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Comfyloom = Callable[..., Outcome]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """In real time, because commands use the real clock; everything in it is fast."""
    with Emulator(time="real", startup_s=0.0, run_s=0.1, rate_limit=None) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def comfyloom(
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> Comfyloom:
    """Run `comfyloom` with the environment of the test."""

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = invoke([str(each) for each in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def account(emulator: Emulator, here: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator as the account in the environment, with records of this test alone."""
    environment = {
        **emulator.environment(),
        "COMFYLOOM_STATE_FILE": str(here / "dev.json"),
        "COMFYLOOM_LEDGER": str(here / "ledger.db"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return emulator
