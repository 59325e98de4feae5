"""What tests share: a clock that never waits, and secrets that do not outlive a test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyloom import _redact
from support import RENDER, FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def render() -> Path:
    return RENDER


@pytest.fixture(autouse=True)
def _clean_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No account of whoever runs the tests, no secret of another test."""
    for name in (
        "RUNCOMFY_API_TOKEN",
        "RUNCOMFY_API_KEY",
        "RUNCOMFY_TOKEN",
        "RUNCOMFY_USER_ID",
        "RUNCOMFY_API_BASE_URL",
        "RUNCOMFY_WORKFLOW_VERSION_ID",
        "RUNCOMFY_SERVER_TYPE",
        "COMFYLOOM_CREDENTIALS",
    ):
        monkeypatch.delenv(name, raising=False)
    before = dict(_redact._secrets)
    yield
    _redact._secrets.clear()
    _redact._secrets.update(before)
    logging.getLogger("comfyloom").setLevel(logging.NOTSET)
