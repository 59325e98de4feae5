"""A short selection of `nox -s crash`: kills at the most important points, and some scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crash import scenes
from crash.lab import Lab, Net


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab.opened(tmp_path) as opened:
        yield opened
        opened.clear(opened.home())
        assert opened.touched == 0


@pytest.mark.parametrize("net", ["guard", "reaper", "lease"])
@pytest.mark.parametrize(
    ("scenario", "near"),
    [
        ("session", "http: sent POST /prod/api/users/…/servers"),
        ("session", "ledger: before UPDATE machines SET server_id"),
        ("session", "http: before DELETE"),
        ("dev up", "http: sent POST /prod/api/users/…/servers"),
        ("dev down", "http: before DELETE"),
    ],
)
def test_a_killed_client_leaves_no_machine(lab: Lab, scenario: str, near: str, net: Net) -> None:
    points = lab.points(scenario, net)
    number = next(place for place, name in enumerate(points, 1) if name.startswith(near))
    assert lab.trial(scenario, number, net)


def test_the_lab_detects_a_machine_that_is_left(lab: Lab) -> None:
    """Without any net the trial fails, as it must be able to."""
    home = lab.home()
    lab.client("session", home, scenes.ANSWERED, **scenes.NO_GUARD)
    assert not lab.soon(lambda: not lab.unowned(home), 0.5)
    lab.emulator.steal(lab.foreign[0])
    lab.check_foreign()
    assert lab.touched == 1
    lab.touched, lab.foreign = 0, []


@pytest.mark.parametrize(
    "scene",
    [
        scenes.process_group_killed,
        scenes.guard_killed_first,
        scenes.guard_restarted,
        scenes.ledger_deleted,
        scenes.disk_full,
        scenes.ledger_full_before,
        scenes.asleep,
        scenes.stolen,
    ],
)
def test_a_scene_ends_well(lab: Lab, scene: Callable[[Lab], bool]) -> None:
    assert scene(lab)
