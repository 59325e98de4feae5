"""Launches that the platform refuses, and dev servers that are used without a version id."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from account_lab import account, launched, launches, statuses
from comfyloom import DevServer, RunComfySession
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import (
    ApiError,
    ConfigError,
    MachineError,
    NotFound,
    Unauthorized,
)
from comfyloom_workflows import FluxImageWorkflow
from guard_lab import soon
from small_runs import small_workflow

Make = Callable[..., RunComfySession]
TYPES = ("large", "extra-large", "medium")


# --- launches that are refused -------------------------------------------------------------------

SOLD_OUT = '{"message": "no GPU of this type is available"}'


def refuse(emulator: Emulator, status: int = 409, times: int = 1, **more: Any) -> None:
    given = {"body": SOLD_OUT, **more}
    emulator.faults.add(
        HttpFault(path="/servers$", method="POST", status=status, times=times, **given)
    )


@pytest.mark.parametrize("status", [400, 403, 409, 422, 503])
def test_the_next_type_is_launched_at_once(emulator: Emulator, make: Make, status: int) -> None:
    refuse(emulator, status)
    begun = time.monotonic()
    with make(server_type=TYPES) as session:
        assert session.run(small_workflow()).image.size
        assert session.cost is not None
    assert time.monotonic() - begun < 30.0  # no minute of searching
    assert launched(emulator) == [("extra-large", "Stopped")]


def test_the_only_type_is_refused(emulator: Emulator, make: Make) -> None:
    refuse(emulator)
    with make() as session, pytest.raises(ApiError, match="409: no GPU of this type") as caught:
        session.run(small_workflow())
    assert caught.value.status == 409
    assert launches(emulator) == 1


def test_all_types_are_refused(emulator: Emulator, make: Make) -> None:
    refuse(emulator, times=3)
    with make(server_type=TYPES) as session, pytest.raises(ApiError) as caught:
        session.run(small_workflow())
    assert all(
        f"{name}: RunComfy: POST /servers answered 409" in str(caught.value) for name in TYPES
    )
    assert (caught.value.status, caught.value.request) == (409, "POST /servers")
    assert launches(emulator) == 3


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (404, NotFound)])
def test_what_is_not_about_the_type_is_final(
    emulator: Emulator, make: Make, status: int, kind: type[ApiError]
) -> None:
    refuse(emulator, status)
    with make(server_type=TYPES) as session, pytest.raises(kind):
        session.run(small_workflow())
    assert launches(emulator) == 1


def test_a_refusal_that_launched_all_the_same_is_stopped(emulator: Emulator, make: Make) -> None:
    """A gateway may answer what the platform never said."""
    refuse(emulator, action="misreport")
    with make(server_type=TYPES) as session:
        assert session.run(small_workflow()).image.size
        assert session.machine is not None
        used = session.machine.server_id
        # The guard looks at once, and once more after five seconds.
        assert soon(lambda: sorted(statuses(emulator)) == ["Ready", "Stopped"])
        assert emulator.state()["machines"][1]["server_id"] == used
        assert launched(emulator)[1] == ("extra-large", "Ready")


def test_the_dev_server_takes_the_next_type(emulator: Emulator, tmp_path: Path) -> None:
    refuse(emulator)
    settings = account(emulator, tmp_path, server_type=TYPES)
    said: list[str] = []
    up = DevServer(settings, on_progress=lambda each: said.append(each.message)).up()
    assert [line.partition(" for account")[0] for line in said if "launching" in line] == [
        "launching a large machine",
        "launching an extra-large machine",
    ]
    assert up.server_type == "extra-large"
    assert up.price == 2.5 or str(up.price) == "2.50"
    with RunComfySession(settings=settings, launch=False) as session:
        assert session.run(small_workflow()).image.size
    assert DevServer(settings).down().server_id == ""


# --- the dev server, without a version id --------------------------------------------------------


@pytest.fixture
def unnamed() -> Iterator[Emulator]:
    """Its account has no workflow of a name that we know."""
    with Emulator(
        time="real", startup_s=0.0, run_s=0.0, rate_limit=None, workflow_names=["my own"]
    ) as running:
        yield running


def test_a_part_runs_on_the_dev_server_of_the_whole(
    emulator: Emulator, make: Make, tmp_path: Path
) -> None:
    settings = account(emulator, tmp_path, workflow_version_id=None)
    up = DevServer(settings).up(FluxImageWorkflow)
    assert up.workflow_version == emulator.workflow_version_id
    with make(workflow_version_id=None) as session:
        assert session.run(FluxImageWorkflow(prompt="x", width=64, height=64)).image.size
        assert session.machine is not None
        assert session.machine.is_borrowed
    # The versions are compared, which costs less than the schemas.
    asked = [each["path"] for each in emulator.state()["requests"]]
    assert not [path for path in asked if path.endswith("/object_info")]
    DevServer(settings).down()


def test_a_part_launches_the_whole(emulator: Emulator, make: Make) -> None:
    with make(workflow_version_id=None) as session:
        assert session.run(FluxImageWorkflow(prompt="x", width=64, height=64)).image.size
    assert launches(emulator) == 1


def test_a_dev_server_that_fits_needs_no_version_id(unnamed: Emulator, tmp_path: Path) -> None:
    settings = account(unnamed, tmp_path)
    up = DevServer(settings).up()
    unaware = attrs.evolve(settings, workflow_version_id=None)
    with RunComfySession(settings=unaware) as session:
        assert session.run(small_workflow()).image.size
        assert session.machine is not None
        assert session.machine.server_id == up.server_id
    with RunComfySession(settings=unaware, start=True) as session:  # any workflow
        assert session.machine is not None
        assert session.machine.server_id == up.server_id
    DevServer(settings).down()
    no_workflow = pytest.raises(ConfigError, match="no workflow named generate_flux_mesh")
    with RunComfySession(settings=unaware) as session, no_workflow:
        session.run(small_workflow())


def test_one_that_does_not_fit_is_left(unnamed: Emulator, tmp_path: Path) -> None:
    settings = account(unnamed, tmp_path)
    DevServer(settings).up()
    unnamed.faults.add(HttpFault(path="/object_info$", status=200, body="{}", times=9))
    unaware = attrs.evolve(settings, workflow_version_id=None)
    does_not_fit = pytest.raises(MachineError, match=r"cannot run on the dev server: .*node type")
    with RunComfySession(settings=unaware, launch=False) as session, does_not_fit:
        session.run(small_workflow())
    DevServer(settings).down()
