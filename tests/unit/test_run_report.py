"""What a run reports: nothing twice, and how long it takes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from comfyloom._session.run_report import RunReport
from comfyloom.progress import Progress
from support import FakeClock


@attrs.define
class Backend:
    """Counts how often it is kept alive."""

    clock: FakeClock
    timings_key: str = "here"
    touched: int = 0

    def touch(self) -> None:
        self.touched += 1


@pytest.fixture
def seen() -> list[Progress]:
    return []


@pytest.fixture
def report(clock: FakeClock, seen: list[Progress]) -> RunReport:
    backend: Any = Backend(clock)
    return RunReport(backend, "flux", seen.append)


def test_what_two_sources_tell_is_reported_once(report: RunReport, seen: list[Progress]) -> None:
    for _ in range(2):
        report.say("queued", "queued", fraction=0.0)
    for fraction in (0.0, 0.0, 0.5, 0.5):
        report.say("node", "KSampler", fraction=fraction)
    assert [(each.kind, each.fraction) for each in seen] == [
        ("queued", 0.0),
        ("node", 0.0),
        ("node", 0.5),
    ]
    assert report.backend.touched == 6  # type: ignore[attr-defined]


def test_each_preview_is_reported(report: RunReport, seen: list[Progress]) -> None:
    for picture in (b"1", b"2"):
        report.say("preview", "preview, KSampler 1/4", fraction=0.25, preview=picture)
    assert [each.preview for each in seen] == [b"1", b"2"]


def test_time_counts_from_the_moment_that_the_server_is_there(
    report: RunReport, seen: list[Progress], clock: FakeClock
) -> None:
    clock.now += 180.0
    report.begin()
    clock.now += 7.0
    report.say("upload", "uploading x")
    assert seen[-1].elapsed_s == report.elapsed_s == 7.0
