"""For how long the guard tries to stop a machine, or to find the one of a launch."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import pytest

from comfyloom._guard import child
from comfyloom._guard.guard import Held
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator
from support import free_port, running

NOW = 1000.0


@pytest.fixture(autouse=True)
def _standing_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=lambda: NOW))


def charge(held: Held, since_s: float, **changes: object) -> child.Charge:
    """Return a held machine as the guard sees it, `since_s` after it began to stop it."""
    message = {**attrs.asdict(held), "before": [], "journal": None, "ca": None, **changes}
    made = child.Charge(message)
    made.stop_since = NOW - since_s
    return made


@pytest.mark.parametrize(("since_s", "outcome"), [(590.0, None), (601.0, "gave up")])
def test_it_gives_up_after_ten_minutes(held: Held, since_s: float, outcome: str | None) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    assert charge(held, since_s, api=away, server_id="m").act() == outcome


@pytest.mark.parametrize(("since_s", "outcome"), [(58.0, None), (61.0, "never appeared")])
def test_it_looks_for_a_launch_for_a_minute(
    held: Held, since_s: float, outcome: str | None
) -> None:
    looking = charge(held, since_s)
    assert looking.act() == outcome
    if outcome is None:
        assert looking.due == NOW + 2.0


def test_it_retries_less_and_less_often(held: Held) -> None:
    waiting = charge(held, 0.0, api=f"http://127.0.0.1:{free_port()}", server_id="m")
    delays: list[float] = []
    for _ in range(8):
        waiting.act()
        delays.append(waiting.due - NOW)
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_refused_launch_must_be_missed_twice_five_seconds_apart(held: Held) -> None:
    refused = charge(held, 0.0)
    refused.is_refused = True
    assert refused.act() is None
    assert refused.due == NOW + 5.0
    # A list that failed in between does not count as a miss.
    refused.missed_at = None
    refused.stop_since = NOW - 30.0
    assert refused.act() is None
    refused.missed_at = NOW - 5.0
    assert refused.act() == "never appeared"


def test_a_machine_that_a_refused_launch_gave_is_stopped(
    emulator: Emulator, api: ServerApi, held: Held
) -> None:
    refused = charge(held, 0.0)
    refused.is_refused = True
    machine = api.launch(emulator.workflow_version_id, held.server_type, held.seconds)
    assert refused.act() is None
    assert refused.server_id == machine.server_id
    assert refused.act() == "deleted"
    assert running(emulator) == []
