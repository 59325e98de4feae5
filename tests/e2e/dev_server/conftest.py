"""A dev server on an emulator, and what uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from comfyloom import RunComfySession
from comfyloom._machines.account_machines import AccountMachines
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator
from comfyloom.settings import Settings
from support import HastyClock


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Without a rate limit: the clients of these tests do not really wait."""
    with Emulator(rate_limit=None) as running:
        yield running


@pytest.fixture
def account_machines(api: ServerApi, settings: Settings) -> AccountMachines:
    return AccountMachines(api, settings)


@pytest.fixture
def session(settings: Settings) -> Callable[..., RunComfySession]:
    """Make a session of the account; `changes` are made to its settings."""

    def make(**options: Any) -> RunComfySession:
        given = attrs.evolve(settings, **options.pop("changes", {}))
        return RunComfySession(settings=given, clock=HastyClock(), **{"start": True, **options})

    return make
