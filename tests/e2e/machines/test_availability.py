"""Whether a run could begin: asked cheaply, answered soon, whatever does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from account_lab import account
from comfyloom import DevServer, RunComfySession, Timeouts
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.settings import Settings
from guard_lab import soon
from small_runs import small_workflow
from support import free_port, machines

Make = Callable[..., RunComfySession]


def asked(emulator: Emulator) -> int:
    return len(emulator.state()["requests"])


# --- a server of one's own -----------------------------------------------------------------------


def test_a_server_that_answers(emulator: Emulator) -> None:
    with RunComfySession(emulator.comfyui_url) as session:
        found = session.availability()
    assert (found.available, found.wait_s, found.usd_per_hour) == (True, 0.0, 0)
    assert found.why == "the server answers"


def test_a_server_that_is_not_there() -> None:
    with RunComfySession(f"http://127.0.0.1:{free_port()}") as session:
        found = session.availability()
    assert (found.available, found.wait_s, found.usd_per_hour) == (False, None, None)
    assert "Connection refused" in found.why


@pytest.mark.parametrize("action", ["hang", "drip"])
def test_a_silent_server_is_not_waited_for(emulator: Emulator, action: Any) -> None:
    fault = HttpFault(action=action, path="/system_stats$", times=100, seconds=1.0)
    emulator.faults.add(fault)
    with RunComfySession(emulator.comfyui_url) as session:
        begun = time.monotonic()
        assert not session.availability().available
        assert time.monotonic() - begun < 10.0  # 39 s before


def test_it_is_asked_once_for_all_threads_and_again_after_a_while(emulator: Emulator) -> None:
    quick = Timeouts(availability_s=0.3)
    with RunComfySession(emulator.comfyui_url, timeouts=quick) as session:
        emulator.faults.add(HttpFault(action="delay", path="/system_stats$", seconds=0.2))
        threads = [threading.Thread(target=session.availability) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert asked(emulator) == 1
        assert session.availability().available
        assert asked(emulator) == 1
        time.sleep(0.35)
        session.availability()
        assert asked(emulator) == 2


# --- an account ----------------------------------------------------------------------------------


def test_a_machine_would_be_launched(emulator: Emulator, make: Make) -> None:
    with make(server_type=("large", "medium")) as session:
        found = session.availability()
        assert (found.available, found.wait_s) == (True, 210.0)
        assert found.usd_per_hour == Decimal("1.75")
        assert found.why == "a large machine would be launched"
        assert session.machine is None
    assert machines(emulator) == []


def test_the_wait_is_what_starts_have_taken(emulator: Emulator, make: Make) -> None:
    with make() as session:
        session.run(small_workflow())
    with make() as session:
        wait_s = session.availability().wait_s
    assert wait_s is not None
    assert 0.0 <= wait_s < 60.0


def test_the_machine_in_use_answers(emulator: Emulator, make: Make) -> None:
    with make() as session:
        session.run(small_workflow())
        before = asked(emulator)
        found = session.availability()
        assert session.machine is not None
        assert found.why == f"machine {session.machine.server_id} answers"
        assert (found.wait_s, found.usd_per_hour) == (0.0, Decimal("0.99"))
        assert asked(emulator) == before


def test_the_dev_server_answers(emulator: Emulator, settings: Settings, make: Make) -> None:
    up = DevServer(settings).up()
    for launch in (True, False):
        with make(launch=launch) as session:
            found = session.availability()
        assert found.why == f"the dev server {up.server_id} answers"
        assert (found.available, found.wait_s) == (True, 0.0)
    with make(server_type="large", launch=False) as session:  # it is of another type
        assert not session.availability().available
    DevServer(settings).down()
    with make(launch=False) as session:
        assert session.availability().why == "there is no dev server, and nothing may be launched"


def test_a_silent_dev_server(emulator: Emulator, settings: Settings, make: Make) -> None:
    up = DevServer(settings).up()
    emulator.faults.add(HttpFault(path="/system_stats$", action="hang", times=100))
    with make(launch=False) as session:
        begun = time.monotonic()
        found = session.availability()
        assert time.monotonic() - begun < 10.0
    assert not found.available
    assert f"the dev server {up.server_id} does not answer" in found.why
    with make() as session:
        assert session.availability().why == "a medium machine would be launched"


def test_a_dev_server_that_starts(tmp_path: Path) -> None:
    with Emulator(time="real", startup_s=30.0, rate_limit=None) as emulator:
        settings = account(emulator, tmp_path)
        upping = threading.Thread(target=lambda: _failing(DevServer(settings).up), daemon=True)
        upping.start()
        session = RunComfySession(settings=settings)
        assert soon(lambda: "is starting" in _fresh(session).why)
        found = session.availability()
        assert found.available
        assert found.wait_s is not None
        assert 0.0 < found.wait_s <= 210.0
        session.close()
        DevServer(settings).down(force=True)
        upping.join(30)


def _failing(action: Callable[[], object]) -> None:
    with pytest.raises(Exception, match="ended while it started"):
        action()


def _fresh(session: RunComfySession) -> Any:
    session._availability._known = None
    return session.availability()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RUNCOMFY_API_TOKEN": "wrong-t0ken"}, "token was not accepted"),
        ({"RUNCOMFY_API_BASE_URL": "http://127.0.0.1:1"}, "Connection refused"),
    ],
)
def test_what_is_wrong_is_said_and_not_raised(
    emulator: Emulator, tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    files = {"COMFYLOOM_STATE_FILE": str(tmp_path / "dev.json")}
    settings = Settings.of_environment(emulator.environment() | files | variables)
    with RunComfySession(settings=settings) as session:
        found = session.availability()
    assert not found.available
    assert words in found.why
    assert "wrong-t0ken" not in repr(found)


def test_a_platform_that_is_silent(emulator: Emulator, make: Make) -> None:
    emulator.faults.add(HttpFault(path="/servers$", action="hang", times=100))
    with make() as session:
        begun = time.monotonic()
        assert not session.availability().available
        assert time.monotonic() - begun < 10.0


def test_the_account_may_be_full(emulator: Emulator, make: Make) -> None:
    emulator.launch_foreign()
    with make(max_machines=1) as session:
        assert "max_machines is 1" in session.availability().why


def test_a_status_does_not_wait_for_the_pace_of_its_own_calls(tmp_path: Path) -> None:
    """A status takes a reserve that a watch, or the poll of a start, leaves untouched."""
    with Emulator(time="real", startup_s=0.0, run_s=0.0) as emulator:
        dev = DevServer(account(emulator, tmp_path))
        dev.up()
        begun = time.monotonic()
        for _ in range(5):
            assert dev.status().health == "healthy"
        assert time.monotonic() - begun < 4.0
        dev.down()
