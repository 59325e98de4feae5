"""Helpers of the tests."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyloom.emulator import Emulator

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


class HastyClock:
    """The real time, but a sleep is over in a moment and counts in full."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def time(self) -> float:
        return time.time() + self._skipped

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.002))
        self._skipped += max(0.0, seconds - 0.002)


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
