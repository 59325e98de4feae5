"""The guard process: the messages it gets, and how it stops machines once their owner is gone."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import attrs
import pytest

from comfyloom._guard.guard import Guard, Held
from comfyloom._runcomfy.client import ServerApi
from comfyloom.emulator import Emulator, HttpFault, MachineFault
from guard_lab import guards_of, soon
from support import running


def launch(emulator: Emulator, api: ServerApi, seconds: int = 1234) -> str:
    return api.launch(emulator.workflow_version_id, "medium", seconds).server_id


def logged_outcomes(held: Held) -> list[str]:
    assert held.journal is not None
    if not held.journal.exists():
        return []
    return [json.loads(line)["outcome"] for line in held.journal.read_text().splitlines()]


# --- what it does ---------------------------------------------------------------------------------


def test_a_machine_is_deleted_when_its_owner_leaves(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.launched("k", launch(emulator, api))
    assert len(running(emulator)) == 1
    guard.disown()
    assert soon(lambda: not running(emulator))
    assert soon(lambda: logged_outcomes(held) == ["deleted"])


def test_a_released_machine_is_left_alone(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.hold(attrs.evolve(held, key="other", journal=None))
    kept, ended = launch(emulator, api), launch(emulator, api, 1235)
    guard.launched("k", kept)
    guard.launched("other", ended)
    guard.forget("k")
    guard.disown()
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
    guard.disown()
    assert soon(lambda: running(emulator) == [older, *foreign])
    assert soon(lambda: logged_outcomes(held) == ["deleted"])


def test_two_matching_machines_are_both_left_alone(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    both = [launch(emulator, api), emulator.launch_foreign("medium", 1234)]
    guard.disown()
    assert soon(lambda: logged_outcomes(held) == ["ambiguous"])
    assert running(emulator) == both


def test_without_the_list_before_the_launch_nothing_is_guessed(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(attrs.evolve(held, before=None))
    launched = launch(emulator, api)
    guard.disown()
    assert soon(lambda: logged_outcomes(held) == ["ambiguous"])
    assert running(emulator) == [launched]


def test_a_machine_that_is_taken_over_is_stopped_by_its_id(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    ours = launch(emulator, api)
    foreign = emulator.launch_foreign("medium", 1)
    guard.hold(attrs.evolve(held, seconds=0, before=None, server_id=ours, seen=True))
    guard.disown()
    assert soon(lambda: running(emulator) == [foreign])


def test_a_failed_stop_is_repeated(
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
    guard.disown()
    assert soon(lambda: not running(emulator))


def test_a_404_does_not_prove_the_end_of_a_young_machine(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    emulator.faults.add(MachineFault(action="young", seconds=3.0))
    guard.launched("k", launch(emulator, api))
    guard.disown()
    assert soon(lambda: not running(emulator))


def test_a_404_proves_the_end_of_a_machine_that_was_seen(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    server_id = launch(emulator, api)
    guard.launched("k", server_id)
    guard.seen("k")
    emulator.steal(server_id)
    guard.disown()
    assert soon(lambda: logged_outcomes(held) == ["not found"])


@pytest.mark.parametrize(("status", "body"), [(404, "<html>"), (200, "<html>log in"), (200, "[]")])
def test_what_a_gateway_answers_to_a_stop_is_not_believed(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held, status: int, body: str
) -> None:
    guard.hold(held)
    guard.launched("k", launch(emulator, api))
    guard.seen("k")
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=status, body=body))
    guard.disown()
    assert soon(lambda: not running(emulator))
    assert soon(lambda: logged_outcomes(held) == ["deleted"])


def test_a_machine_that_is_listed_as_deleting_has_ended(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    emulator.faults.add(MachineFault(action="lingers", seconds=60.0))
    guard.hold(held)
    server_id = launch(emulator, api)
    guard.launched("k", server_id)
    guard.seen("k")
    emulator.steal(server_id)
    emulator.faults.add(HttpFault(method="DELETE", path="/servers/", status=404, times=100))
    guard.disown()
    assert soon(lambda: logged_outcomes(held) == ["not found"])


def test_it_finishes_a_stop_while_its_owner_lives(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    guard.launched("k", launch(emulator, api))
    assert guard.stop("k")
    assert soon(lambda: not running(emulator))


def test_a_killed_guard_is_replaced(
    emulator: Emulator, api: ServerApi, guard: Guard, held: Held
) -> None:
    guard.hold(held)
    (first,) = guards_of(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert soon(lambda: not guards_of(os.getpid()))
    guard.launched("k", launch(emulator, api))
    guard.disown()
    assert soon(lambda: not running(emulator))


def test_a_check_replaces_a_killed_guard(guard: Guard, held: Held) -> None:
    guard.hold(held)
    (first,) = guards_of(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert soon(lambda: not guards_of(os.getpid()))
    assert guard.check()
    assert len(guards_of(os.getpid())) == 1


# --- what it is -----------------------------------------------------------------------------------


def test_it_is_detached_and_holds_nothing_of_its_owner(guard: Guard, held: Held) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    os.close(write)
    assert os.read(read, 1) == b""  # the guard does not hold it: `cmd | tee` would end
    os.close(read)
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) != os.getpid()
    targets = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    assert len([each for each in targets if each.startswith("pipe:")]) == 1
    assert "/dev/null" in targets


def test_its_secrets_are_not_in_arguments_or_variables(
    guard: Guard, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", held.token)
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    for name in ("cmdline", "environ"):
        assert held.token.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_it_uses_little_memory_while_it_waits(guard: Guard, held: Held) -> None:
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("VmRSS")]
    assert int(line.split()[1]) < 25_000
    assert "_ssl" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ignores_signals_that_end_programs(guard: Guard, held: Held, number: int) -> None:
    guard.hold(held)
    (pid,) = guards_of(os.getpid())
    os.kill(pid, number)
    time.sleep(0.1)
    assert guards_of(os.getpid()) == [pid]


def test_an_invalid_message_does_not_end_it(guard: Guard, held: Held) -> None:
    guard.hold(held)
    assert guard._pipe is not None
    os.write(guard._pipe, b'nonsense\n{"do": "hold"}\n[1]\n{"do": "stop", "key": "unknown"}\n')
    time.sleep(0.1)
    assert len(guards_of(os.getpid())) == 1


@pytest.mark.parametrize("name", ["", "/usr/bin/uwsgi", "/opt/app/frozen"])
def test_an_executable_that_is_not_python_is_not_started(
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


@pytest.mark.parametrize(("kills", "is_held"), [(2, True), (3, False)])
def test_one_that_is_killed_while_it_starts_is_started_again(
    guard: Guard,
    held: Held,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kills: int,
    is_held: bool,
) -> None:
    """Until it has its armour, any signal ends it."""
    count, python = tmp_path / "count", tmp_path / "python3"
    python.write_text(
        f'#!/bin/sh\nprintf x >> "{count}"\n'
        f'[ "$(wc -c < "{count}")" -gt {kills} ] || kill -TERM $$\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert guard.hold(held) is is_held
    assert guard.check()  # the next beat tries again
    assert soon(lambda: len(guards_of(os.getpid())) == 1)


def test_an_owner_says_that_its_guard_was_killed(
    guard: Guard, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    assert guard.hold(held)
    (first,) = guards_of(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert soon(lambda: guards_of(os.getpid()) == [])
    assert guard.check()
    (second,) = guards_of(os.getpid())
    assert second != first
    assert "the guard process has ended; starting another" in caplog.text
