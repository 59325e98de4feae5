"""Other failures of processes, disks, platforms and accounts; each returns whether all is well."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Final

from comfyloom.emulator import HttpFault
from crash.lab import Home, Lab, guards

Client = subprocess.Popen[bytes]

ANSWERED: Final = 12
"""The point of a session at which the launch was answered, before the client acts on the answer."""
SENT: Final = ANSWERED - 1
MINUTE_S: Final = 60.0
NO_GUARD: Final = {"CRASH_NO_GUARD": "1"}


def holding(lab: Lab, home: Home, **more: str) -> Client:
    """Start a client that holds a machine, and return it once it does."""
    ready = home.folder / f"ready-{time.monotonic_ns()}"
    client = lab.begin("idle", home, CRASH_READY=str(ready), **more)
    assert lab.soon(ready.exists, 30.0), (home.folder / "stderr").read_text()
    return client


def stderr_of(home: Home) -> str:
    """Return what the clients of a home have written to stderr."""
    return (home.folder / "stderr").read_text()


def nothing_runs(lab: Lab) -> Callable[[], bool]:
    return lambda: not lab.running()


def process_group_killed(lab: Lab) -> bool:
    """The whole process group is killed."""
    lab.client("session", lab.home(), ANSWERED, CRASH_DEED="kill-group")
    return lab.soon(nothing_runs(lab))


def guard_killed_first(lab: Lab) -> bool:
    """The guard is killed first, then its owner; the next session reaps."""
    home = lab.home()
    client = holding(lab, home)
    for guard in guards(lab.mark):
        os.kill(guard, signal.SIGKILL)
    client.kill()
    client.wait()
    was_left = len(lab.running()) == 1
    assert lab.client("session", home) == 0
    return was_left and not lab.running()


def guard_restarted(lab: Lab) -> bool:
    """The guard is killed before a launch is answered; another one takes over."""
    home = lab.home()
    go, paused = home.folder / "go", home.folder / "paused"
    more = {"CRASH_DEED": "pause", "CRASH_PAUSED": str(paused), "CRASH_GO": str(go)}
    ready = home.folder / "ready"
    client = lab.begin("idle", home, ANSWERED, CRASH_READY=str(ready), **more)
    assert lab.soon(paused.exists, 30.0)
    for guard in guards(lab.mark):
        os.kill(guard, signal.SIGKILL)
    go.touch()
    assert lab.soon(ready.exists, 30.0)
    client.kill()
    client.wait()
    return lab.soon(nothing_runs(lab))


def both_killed(lab: Lab) -> bool:
    """Owner and guard are killed together; the command reaps."""
    home = lab.home()
    client = holding(lab, home)
    for pid in (*guards(lab.mark), client.pid):
        os.kill(pid, signal.SIGSTOP)
    for pid in (*guards(lab.mark), client.pid):
        os.kill(pid, signal.SIGKILL)
    client.wait()
    was_left = len(lab.running()) == 1
    done = lab.command(home, "machines", "reap")
    return was_left and done.returncode == 0 and "stopped" in done.stdout and not lab.running()


def ledger_deleted(lab: Lab) -> bool:
    """The ledger is deleted while a machine runs, and its owner killed."""
    home = lab.home()
    client = holding(lab, home)
    for file in home.state.glob("ledger.db*"):
        file.unlink()
    client.kill()
    client.wait()
    return lab.soon(nothing_runs(lab))


def disk_full(lab: Lab) -> bool:
    """The disk is full from the moment at which the launch is answered."""
    is_loud = []
    for deed_at in (SENT, ANSWERED, ANSWERED + 20):
        home = lab.home()
        client = lab.begin("session", home, deed_at, is_piped=True, CRASH_DEED="fill-disk")
        _, said = client.communicate(timeout=60)
        is_loud.append(b"is not kept up to date" in said)
    return all(is_loud) and lab.soon(nothing_runs(lab))


def ledger_full_before(lab: Lab) -> bool:
    """The disk is full before the launch: nothing is launched, and the reason is reported."""
    home = lab.home()
    launched = len(lab.emulator.state()["machines"])
    client = lab.begin("session", home, 3, is_piped=True, CRASH_DEED="fill-disk")
    _, said = client.communicate(timeout=60)
    is_launched = len(lab.emulator.state()["machines"]) != launched
    return client.returncode != 0 and b"LedgerError" in said and not is_launched


def api_fails_for_a_minute(lab: Lab) -> bool:
    """The platform fails for a minute while a machine is stopped."""
    home = lab.home()
    client = holding(lab, home)
    (server_id,) = lab.running()
    lab.emulator.faults.add(HttpFault(path="/servers", status=503, times=10**6))
    begun = time.monotonic()
    client.terminate()
    code = client.wait(30)
    waited_s = time.monotonic() - begun
    said = stderr_of(home)
    is_loud = server_id in said and "0.99 USD" in said and "machines stop" in said
    time.sleep(MINUTE_S - waited_s)
    was_left = lab.running() == {server_id}
    lab.emulator.faults.clear()
    return code != 0 and waited_s < 12 and is_loud and was_left and lab.soon(nothing_runs(lab), 40)


def two_hosts(lab: Lab) -> bool:
    """Two hosts with two ledgers launch together, and both are killed."""
    clients = [lab.begin("session", lab.home(), SENT) for _ in range(2)]
    for client in clients:
        client.wait()
    return lab.soon(nothing_runs(lab))


def wrong_credentials(lab: Lab) -> bool:
    """The reaper has the credentials of another account, then a wrong token, then the right one."""
    home = lab.home()
    client = holding(lab, home, **NO_GUARD)
    client.kill()
    client.wait()
    (server_id,) = lab.running()
    stranger = lab.command(home, "machines", "reap", RUNCOMFY_USER_ID="other-user")
    refused = lab.command(home, "machines", "reap", RUNCOMFY_API_TOKEN="wrong")
    was_left = lab.running() == {server_id}
    asked = [each for each in lab.emulator.state()["requests"] if "other-user" in each["path"]]
    right = lab.command(home, "machines", "reap")
    return (
        was_left
        and not any(server_id in each["path"] for each in asked)
        and "1 of other accounts" in stranger.stderr
        and refused.returncode == 77
        and right.returncode == 0
        and not lab.running()
    )


def asleep(lab: Lab) -> bool:
    """The laptop sleeps for an hour: the lease stops the machine, and no other one is touched."""
    home = lab.home()
    client = holding(lab, home)
    client.send_signal(signal.SIGSTOP)
    lab.emulator.clock.advance(3600)  # type: ignore[attr-defined]
    ended_asleep = not lab.running()
    client.send_signal(signal.SIGCONT)
    client.terminate()
    return ended_asleep and client.wait(30) == 143 and not lab.running()


def twenty_together(lab: Lab) -> bool:
    """Twenty processes launch together, five are allowed; then all are killed."""
    home = lab.home()
    allowed = 5 + len(lab.foreign)
    ready = home.folder / "ready"
    more = {"COMFYLOOM_MAX_MACHINES": str(allowed), "CRASH_READY": str(ready)}
    clients = [lab.begin("idle", home, **more) for _ in range(20)]
    refused = 0
    end = time.monotonic() + 120
    while refused < 15 and time.monotonic() < end:
        refused = sum(client.poll() is not None for client in clients)
        assert len(lab.running()) <= 5
        time.sleep(0.05)
    held = len(lab.running())
    for client in clients:
        client.kill()
        client.wait()
    return (refused, held) == (15, 5) and lab.soon(nothing_runs(lab))


def stolen(lab: Lab) -> bool:
    """Another process stops the machine: the session ends well, and stops no other machine."""
    home = lab.home()
    client = holding(lab, home)
    (server_id,) = lab.running()
    lab.emulator.steal(server_id)
    client.terminate()
    return client.wait(30) == 143 and "may still" not in stderr_of(home) and not lab.running()


def another_launch_beside(lab: Lab) -> bool:
    """Another user launches the same machine type while a launch has no answer."""
    home = lab.home()
    go, paused = home.folder / "go", home.folder / "paused"
    more = {"CRASH_DEED": "pause", "CRASH_PAUSED": str(paused), "CRASH_GO": str(go)}
    lab.emulator.faults.add(HttpFault(action="lose_answer", method="POST", path="/servers$"))
    client = lab.begin("idle", home, SENT - 1, CRASH_READY=str(home.folder / "ready"), **more)
    assert lab.soon(paused.exists, 30.0)
    lab.foreign.append(lab.emulator.launch_foreign("medium", 1800))
    go.touch()
    assert lab.soon((home.folder / "ready").exists, 30.0)
    client.kill()
    client.wait()
    return lab.soon(nothing_runs(lab))


SCENES: Final[tuple[Callable[[Lab], bool], ...]] = (
    api_fails_for_a_minute,
    process_group_killed,
    guard_killed_first,
    guard_restarted,
    both_killed,
    ledger_deleted,
    disk_full,
    ledger_full_before,
    two_hosts,
    wrong_credentials,
    asleep,
    twenty_together,
    stolen,
    another_launch_beside,
)
