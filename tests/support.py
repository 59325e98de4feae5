"""Helpers of the tests."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfyloom.testing import HastyClock

if TYPE_CHECKING:
    from comfyloom.emulator import Emulator

__all__ = [
    "RECORDINGS",
    "RENDER",
    "ROOT",
    "FakeClock",
    "HastyClock",
    "free_port",
    "machines",
    "running",
]

ROOT = Path(__file__).parents[1]
RENDER = ROOT / "examples" / "render.png"
RECORDINGS = ROOT / "tests" / "recordings"


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += max(0.0, seconds)


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def machines(emulator: Emulator) -> list[dict[str, Any]]:
    """Return what an emulator says of all machines ever launched."""
    found: list[dict[str, Any]] = emulator.state()["machines"]
    return found


def running(emulator: Emulator) -> list[str]:
    """Return the ids of the machines that were not stopped."""
    return [each["server_id"] for each in machines(emulator) if not each["stopped_at"]]
