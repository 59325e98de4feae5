"""One emulator with the lab's nodes per test, and clients for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from comfyloom.emulator import Emulator
from emulator.clients import AccountClient, ComfyUIClient, Start
from emulator.lab import NODES, OBJECT_INFO


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts emulators that are closed after the test."""
    with ExitStack() as stack:

        def starter(**options: Any) -> Emulator:
            lab = {"object_info": OBJECT_INFO, "nodes": NODES, "rate_limit": None}
            return stack.enter_context(Emulator(**{**lab, **options}))

        yield starter


@pytest.fixture
def emulator(start: Start) -> Emulator:
    return start()


@pytest.fixture
def account(emulator: Emulator) -> Iterator[AccountClient]:
    account = AccountClient(emulator)
    yield account
    account.http.close()


@pytest.fixture
def comfyui(emulator: Emulator) -> Iterator[ComfyUIClient]:
    """A client of the plain ComfyUI."""
    comfyui = ComfyUIClient(emulator.comfyui_url)
    yield comfyui
    comfyui.http.close()
