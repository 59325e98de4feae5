"""The guard process, from both sides: what it is told, what it does when its owner is gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from comfyloom._guard import child
from comfyloom._guard.guard import _CHILD, Guard, Held
from comfyloom._runcomfy.client import ServerApi, account_url
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from support import free_port, running

SOON_S = 10.0


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(time="real", startup_s=0.0, rate_limit=None) as found:
        yield found


@pytest.fixture
def api(emulator: Emulator) -> Iterator[ServerApi]:
    made = ServerApi(emulator.base_url, emulator.user_id, emulator.token)
    yield made
    made.close()


@pytest.fixture
def guard() -> Iterator[Guard]:
    made = Guard()
    yield made
    leave(made)
    for pid in guards_of(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def held(emulator: Emulator, tmp_path: Path) -> Held:
    return Held(
        key="k",
        api=account_url(emulator.base_url, emulator.user_id),
        token=emulator.token,
        server_type="medium",
        seconds=1234,
        before=frozenset(),
        journal=tmp_path / "k.jsonl",
    )


def guards_of(owner: int) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(_CHILD).encode() in words and str(owner).encode() in words:
                found.append(int(folder.name))
    return found


def leave(guard: Guard) -> None:
    """Close the pipe, as the end of the owner does."""
    guard.disown()


def soon(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + SOON_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def launch(emulator: Emulator, api: ServerApi, seconds: int = 1234) -> str:
    return api.launch(emulator.workflow_version_id, "medium", seconds).server_id


def journal(held: Held) -> list[str]:
    assert held.journal is not None
    if not held.journal.exists():
        return []
    return [json.loads(line)["outcome"] for line in held.journal.read_text().splitlines()]


# --- what it does --------------------------------------------------------------------------------


def test_a_machine_is_deleted_when_its_owner_leaves(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.launched("k", launch(emulator, api))
    assert len(running(emulator)) == 1
    leave(guard)
    assert soon(lambda: not running(emulator))
    assert soon(lambda: journal(held) == ["deleted"])


def test_a_machine_that_was_forgotten_is_left_alone(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.hold(attrs.evolve(held, key="other", journal=None))
    kept, ended = launch(emulator, api), launch(emulator, api, 1235)
    guard.launched("k", kept)
    guard.launched("other", ended)
    guard.forget("k")
    leave(guard)
    assert soon(lambda: running(emulator) == [kept])
    assert soon(lambda: not guards_of(os.getpid()))


def test_a_launch_without_an_answer_is_looked_for(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    older = launch(emulator, api)
    guard.hold(attrs.evolve(held, before=frozenset({older})))
    foreign = [emulator.launch_foreign("medium", 1235), emulator.launch_foreign("large", 1234)]
    emulator.faults.add(MachineFault(action="unlisted", seconds=1.0))
    launch(emulator, api)
    leave(guard)
    assert soon(lambda: running(emulator) == [older, *foreign])
    assert soon(lambda: journal(held) == ["deleted"])


def test_two_that_fit_are_both_left_alone(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    both = [launch(emulator, api), emulator.launch_foreign("medium", 1234)]
    leave(guard)
    assert soon(lambda: journal(held) == ["cannot be told"])
    assert running(emulator) == both


def test_without_the_list_before_nothing_is_guessed(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(attrs.evolve(held, before=None))
    launched = launch(emulator, api)
    leave(guard)
    assert soon(lambda: journal(held) == ["cannot be told"])
    assert running(emulator) == [launched]


def test_a_machine_that_is_taken_over_is_known_from_the_first_message(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    ours = launch(emulator, api)
    foreign = emulator.launch_foreign("medium", 1)
    guard.hold(attrs.evolve(held, seconds=0, before=None, server_id=ours, seen=True))
    leave(guard)
    assert soon(lambda: running(emulator) == [foreign])


def test_a_platform_that_fails_is_asked_again(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.launched("k", launch(emulator, api))
    for fault in (
        HttpFault(method="DELETE", path="/servers/", status=500),
        HttpFault(method="DELETE", path="/servers/", status=302, headers={"Location": "/"}),
        HttpFault(method="DELETE", path="/servers/", action="drop"),
    ):
        emulator.faults.add(fault)
    leave(guard)
    assert soon(lambda: not running(emulator))


def test_a_404_of_a_young_machine_is_no_proof(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    emulator.faults.add(MachineFault(action="young", seconds=3.0))
    guard.launched("k", launch(emulator, api))
    leave(guard)
    assert soon(lambda: not running(emulator))


def test_a_404_of_a_machine_that_was_seen_is_one(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    server_id = launch(emulator, api)
    guard.launched("k", server_id)
    guard.seen("k")
    emulator.steal(server_id)
    leave(guard)
    assert soon(lambda: journal(held) == ["not found"])


def test_it_goes_on_with_a_stop_while_its_owner_lives(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.launched("k", launch(emulator, api))
    assert guard.stop("k")
    assert soon(lambda: not running(emulator))


def test_another_one_is_started_when_it_was_killed(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    (first,) = guards_of(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert soon(lambda: not guards_of(os.getpid()))
    guard.launched("k", launch(emulator, api))
    leave(guard)
    assert soon(lambda: not running(emulator))


def test_a_check_finds_that_it_was_killed(guard: Guard, held: Held) -> None:
    guard.hold(held)
    (first,) = guards_of(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert soon(lambda: not guards_of(os.getpid()))
    assert guard.check()
    assert len(guards_of(os.getpid())) == 1


# --- what it is ----------------------------------------------------------------------------------


def test_it_is_detached_and_holds_nothing_of_its_owner(guard: Guard, held: Held) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    os.close(write)
    assert os.read(read, 1) == b""  # nobody else has it: `cmd | tee` would end
    os.close(read)
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) != os.getpid()
    targets = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    assert len([each for each in targets if each.startswith("pipe:")]) == 1
    assert "/dev/null" in targets


def test_its_secrets_are_in_neither_arguments_nor_variables(
    guard: Guard, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", held.token)
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    for name in ("cmdline", "environ"):
        assert held.token.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_it_loads_little_while_it_waits(guard: Guard, held: Held) -> None:
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("VmRSS")]
    assert int(line.split()[1]) < 25_000
    assert "_ssl" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_programs_does_not_end_it(guard: Guard, held: Held, number: int) -> None:
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    os.kill(pid, number)
    time.sleep(0.1)
    assert guards_of(os.getpid()) == [pid]


def test_a_garbled_message_does_not_end_it(guard: Guard, held: Held) -> None:
    guard.hold(held)
    assert guard._pipe is not None
    os.write(guard._pipe, b'nonsense\n{"do": "hold"}\n[1]\n{"do": "stop", "key": "nobody"}\n')
    time.sleep(0.1)
    assert len(guards_of(os.getpid())) == 1


@pytest.mark.parametrize("name", ["", "/usr/bin/uwsgi", "/opt/app/frozen"])
def test_a_program_that_is_no_python_is_not_started_again(
    guard: Guard,
    held: Held,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "executable", name)
    assert not guard.hold(held)
    assert not guard.launched("k", "m")
    assert len([each for each in caplog.messages if "no guard process" in each]) == 1


# --- forks and sudden ends of the owner ----------------------------------------------------------

OWNER = """
import os, sys, time
from comfyloom import RunComfySession

session = RunComfySession().__enter__()
print(session.machine.server_id, flush=True)
{then}
"""


def own(emulator: Emulator, folder: Path, then: str) -> subprocess.Popen[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **emulator.environment()}
    return subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)],
        env=environ,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_os_exit_ends_the_machine(emulator: Emulator, tmp_path: Path) -> None:
    with own(emulator, tmp_path, "os._exit(3)") as owner:
        assert owner.wait(20) == 3
    assert soon(lambda: not running(emulator))


def test_a_fork_that_lives_on_does_not_hide_the_owners_death(
    emulator: Emulator, tmp_path: Path
) -> None:
    then = "if os.fork() == 0: time.sleep(12); os._exit(0)\nos.kill(os.getpid(), 9)"
    with own(emulator, tmp_path, then) as owner:
        assert soon(lambda: owner.poll() is not None)
        assert soon(lambda: not running(emulator))
        assert owner.stdout is not None
        owner.stdout.close()


def test_a_fork_owns_nothing(emulator: Emulator, tmp_path: Path) -> None:
    """It leaves through the end of the block, and the machine runs on."""
    then = (
        "if (child := os.fork()) == 0: session.__exit__(None, None, None); sys.exit(0)\n"
        "os.waitpid(child, 0); print('waiting', flush=True); sys.stdin.read()"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **emulator.environment()}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)],
        env=environ,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        server_id = owner.stdout.readline().strip()
        assert owner.stdout.readline() == "waiting\n"
        assert running(emulator) == [server_id]
        assert owner.stdin is not None
        owner.stdin.close()
        assert owner.wait(20) == 0
    assert running(emulator) == []


def test_a_pipe_to_another_program_ends_with_the_owner(emulator: Emulator, tmp_path: Path) -> None:
    """The platform does not stop the machine: the guard stays, and `| cat` must not wait for it."""
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=500, times=10**6))
    with own(emulator, tmp_path, "os._exit(0)") as owner:
        begun = time.monotonic()
        owner.communicate(timeout=30)
        assert time.monotonic() - begun < 20
    assert len(running(emulator)) == 1
    emulator.faults.clear()
    assert soon(lambda: not running(emulator))


# --- how long it goes on -------------------------------------------------------------------------


def charge(held: Held, since_s: float, **changes: object) -> child.Charge:
    """Return what the guard answers for, as if it had been at its end for so long."""
    message = {**attrs.asdict(held), "before": [], "journal": None, "ca": None, **changes}
    made = child.Charge(message)
    made.stop_since = time.monotonic() - since_s
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
    begun = time.monotonic()
    assert looking.act() == outcome
    if outcome is None:
        assert 1.9 < looking.due - begun < 3.0


def test_it_asks_less_and_less_often(held: Held) -> None:
    waiting = charge(held, 0.0, api=f"http://127.0.0.1:{free_port()}", server_id="m")
    delays: list[float] = []
    for _ in range(8):
        begun = time.monotonic()
        waiting.act()
        delays.append(round(waiting.due - begun))
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
