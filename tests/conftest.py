"""What tests share: a clock that never waits, and secrets that do not outlive a test."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyloom._core import redact
from support import RENDER, FakeClock


def pytest_configure() -> None:
    """Handle signals as in a terminal: `nohup` and background jobs start with some ignored."""
    handlers = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def render() -> Path:
    return RENDER


@pytest.fixture(autouse=True)
def _clean_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No account of whoever runs the tests, no secret of another test."""
    for name in [name for name in os.environ if name.startswith(("RUNCOMFY_", "COMFYLOOM_"))]:
        monkeypatch.delenv(name)
    # Nobody's configuration folder, and no dev server of this project.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("COMFYLOOM_STATE_FILE", str(tmp_path_factory.mktemp("dev") / "dev.json"))
    before = dict(redact._secrets)
    yield
    redact._secrets.clear()
    redact._secrets.update(before)
    logging.getLogger("comfyloom").setLevel(logging.NOTSET)
