"""Fixtures of all tests: a clock that never waits, a clean environment, no leftover secrets."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
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


# How fast examples are drawn and run says something about the computer only.
hypothesis.settings.register_profile(
    "any computer", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any computer")


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
    """Hide the developer's account, and forget the secrets of other tests."""
    for name in [name for name in os.environ if name.startswith(("RUNCOMFY_", "COMFYLOOM_"))]:
        monkeypatch.delenv(name)
    # Without a user id, nobody is asked for it.
    monkeypatch.setattr("comfyloom.settings.model.DEFAULT_WEB_BASE", "http://127.0.0.1:1")
    # Neither the developer's configuration folder nor a dev server of this project.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("COMFYLOOM_STATE_FILE", str(tmp_path_factory.mktemp("dev") / "dev.json"))
    before = dict(redact._secrets)
    yield
    redact._secrets.clear()
    redact._secrets.update(before)
    logging.getLogger("comfyloom").setLevel(logging.NOTSET)
