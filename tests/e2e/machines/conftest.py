"""An emulator in real time whose machines start at once, and sessions on its account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from account_lab import account
from comfyloom import RunComfySession, Timeouts
from comfyloom.emulator import Emulator
from comfyloom.settings import Settings


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, run_s=0.1, rate_limit=None) as running:
        yield running


@pytest.fixture
def settings(emulator: Emulator, tmp_path: Path) -> Settings:
    return account(emulator, tmp_path)


@pytest.fixture
def make(settings: Settings) -> Callable[..., RunComfySession]:
    """Make a session of the account; other keywords change its settings."""

    def session(
        *,
        start: bool = False,
        launch: bool = True,
        timeouts: Timeouts | None = None,
        **changes: Any,
    ) -> RunComfySession:
        given = attrs.evolve(settings, **changes)
        limits = timeouts or Timeouts()
        return RunComfySession(settings=given, start=start, launch=launch, timeouts=limits)

    return session
