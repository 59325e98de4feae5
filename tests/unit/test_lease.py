"""A lease counts from Ready, is renewed by use, and never exceeds its longest duration."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._machines.lease import Lease
from comfyloom._runcomfy.models import Server
from comfyloom.errors import TransportError
from support import FakeClock


@attrs.define
class FakeApi:
    clock: FakeClock
    ready: float
    asked: list[int] = attrs.field(factory=list)
    fails: bool = False
    tells_time: bool = True
    duration: float = 1000
    timeouts: Timeouts = DEFAULT_TIMEOUTS

    def now(self) -> float:
        return self.clock.time()

    def server(self, duration: float) -> Server:
        return Server(
            server_id="s",
            current_status="Ready",
            estimated_duration=duration,
            service_ready_at=datetime.fromtimestamp(self.ready, UTC),
            estimated_stopping_at=datetime.fromtimestamp(self.ready + duration, UTC),
        )

    def get_server(self, server_id: str, **_: Any) -> Server:
        return self.server(self.duration)

    def set_duration(self, server_id: str, seconds: int, **_: Any) -> Server:
        if self.fails:
            raise TransportError("no answer")
        self.asked.append(seconds)
        self.duration = seconds
        return self.server(seconds)


@pytest.fixture
def api(clock: FakeClock) -> FakeApi:
    return FakeApi(clock, clock.now)


def make(api: Any, seconds: int = 1000, longest_s: float = 5000, now: float = 1000) -> Lease:
    lease = Lease(api, "s", seconds, longest_s)
    api.duration = now
    lease.note(api.server(now))
    return lease


def test_it_counts_from_ready(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api)
    clock.sleep(400)
    assert (lease.elapsed_s, lease.left_s) == (400, 600)


def test_a_renewal_adds_the_time_that_has_passed(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api)
    clock.sleep(700)
    lease.renew()
    assert api.asked == [1700]
    assert lease.left_s == 1000


def test_a_renewal_never_shortens_it(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api, now=4000)
    clock.sleep(100)
    lease.renew()
    assert api.asked == []


def test_it_is_not_renewed_beyond_its_longest_time(
    api: FakeApi, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    lease = make(api, longest_s=1500)
    clock.sleep(900)
    lease.renew()
    clock.sleep(500)
    with caplog.at_level(logging.WARNING, "comfyloom"):
        lease.renew()
        lease.renew()
    assert api.asked == [1500]
    assert caplog.text.count("ends in 100 s") == 1


def test_settling_may_shorten(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api, seconds=600, now=1742)
    clock.sleep(2)
    lease.settle()
    lease.settle()
    assert api.asked == [602]


def test_use_renews_it_only_when_a_renewal_is_due(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api)
    lease.touch()
    clock.sleep(499)
    lease.touch()
    assert api.asked == []


def test_a_failed_renewal_is_reported(
    api: FakeApi, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    lease = make(api)
    api.fails = True
    clock.sleep(700)
    lease.renew()
    assert "was not renewed" in caplog.text
    assert lease.left_s == 300


def test_the_platform_may_give_no_end(api: FakeApi, clock: FakeClock) -> None:
    lease = Lease(api, "s", 1000, 5000)  # type: ignore[arg-type]
    lease.note(Server(server_id="s", current_status="Ready", estimated_duration=900.0))
    assert lease.left_s == 900


def test_a_longer_lease_set_by_another_process_is_kept(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api)
    api.duration = 12600
    clock.sleep(900)
    lease.renew()
    assert api.asked == []
    assert lease.left_s == 11700


def test_without_the_platforms_time_ready_is_not_before_the_launch(
    api: FakeApi, clock: FakeClock
) -> None:
    api.tells_time = False
    api.ready = clock.now - 3 * 3600  # our clock is ahead
    lease = Lease(api, "s", 1000, 50000, launched_at=clock.monotonic())  # type: ignore[arg-type]
    lease.note(api.server(1000))
    clock.sleep(30)
    assert lease.elapsed_s == 30


def test_a_change_is_reported(api: FakeApi, clock: FakeClock) -> None:
    lease = make(api)
    changes: list[Server] = []
    lease.on_changed = changes.append
    clock.sleep(700)
    lease.renew()
    assert [server.estimated_duration for server in changes] == [1700]


def test_the_platform_is_asked_after_the_computer_slept(
    api: FakeApi, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock stood still, so by that clock most of the lease is left."""
    asleep_s = 0.0
    monkeypatch.setattr(clock, "monotonic", lambda: clock.now - asleep_s)
    monkeypatch.setattr(FakeApi, "now", lambda self: self.clock.monotonic())
    renewed: list[float] = []
    monkeypatch.setattr(Lease, "_renew_once", lambda _: renewed.append(clock.now))
    lease = make(api)
    clock.now += 60
    lease.touch()
    assert renewed == []
    clock.now, asleep_s = clock.now + 840, 800.0
    lease.touch()
    end = time.monotonic() + 5
    while not renewed and time.monotonic() < end:
        time.sleep(0.005)
    assert renewed == [clock.now]
