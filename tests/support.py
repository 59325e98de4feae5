"""A clock for tests, free ports, and what an emulator saw: its machines, prompts and requests."""

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
    "assert_nothing_runs",
    "free_port",
    "machines",
    "prompts",
    "request_count",
    "request_statuses",
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
    """Return an emulator's records of all machines ever launched."""
    found: list[dict[str, Any]] = emulator.state()["machines"]
    return found


def running(emulator: Emulator) -> list[str]:
    """Return the ids of the machines that were not stopped."""
    return [each["server_id"] for each in machines(emulator) if not each["stopped_at"]]


def prompts(emulator: Emulator) -> list[dict[str, Any]]:
    """Return an emulator's records of all prompts ever accepted."""
    found: list[dict[str, Any]] = emulator.state()["prompts"]
    return found


def assert_nothing_runs(emulator: Emulator) -> None:
    """Assert that every machine was stopped, and that no prompt runs or waits."""
    assert all(machine["stopped_at"] for machine in machines(emulator))
    assert not any(prompt["status"] in ("running", "pending") for prompt in prompts(emulator))


def request_count(emulator: Emulator, part: str, method: str | None = None) -> int:
    """Return how many requests had this part in their path."""
    found = [row for row in emulator.state()["requests"] if part in row["path"]]
    return sum(1 for row in found if method in (None, row["method"]))


def request_statuses(emulator: Emulator, method: str, path_end: str) -> list[int]:
    """Return the status of each request whose path ends with the given text."""
    return [
        each["status"]
        for each in emulator.state()["requests"]
        if each["method"] == method and each["path"].endswith(path_end)
    ]
