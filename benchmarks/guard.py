"""The cost of the guard process, and how soon it acts.

    python benchmarks/guard.py [TIMES]

Measured on an emulator in real time: how long a program waits for its guard to start, how much
memory the guard takes while it waits, and how soon after `kill -9` of its owner a machine has
ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import print_report

from comfyloom._guard import guard as guard_module
from comfyloom._guard.guard import Guard, Held
from comfyloom.emulator import Emulator

OWNER = """
import time
from comfyloom import RunComfySession
with RunComfySession(start=True) as session:
    print("ready", flush=True)
    time.sleep(60)
"""


def main(times: int) -> None:
    measured: dict[str, list[float]] = {
        "start of the guard": [],
        "kill -9 of a session → its machine has ended": [],
    }
    starts, ends = measured.values()
    memory: list[int] = []
    for _ in range(times):
        starts.append(start_s(memory))
        ends.append(outlived_s())
    print_report("The guard process", measured)
    print(f"memory while it waits (VmRSS): at most {max(memory) / 1000:.1f} MB")


def start_s(memory: list[int]) -> float:
    """Return the seconds that the first message to a guard takes, which starts it."""
    held = Held(
        key="k",
        api="http://127.0.0.1:1",
        token="t",
        server_type="medium",
        seconds=1,
        before=frozenset(),
        journal=None,
    )
    guard = Guard()
    begun = time.perf_counter()
    assert guard.hold(held)
    seconds = time.perf_counter() - begun
    memory.append(resident_kb())
    guard.forget("k")
    guard.disown()
    return seconds


def resident_kb() -> int:
    mark = [str(guard_module._CHILD), str(os.getpid())]
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_text().split("\0")
            if words[-3:-1] == mark:
                status = (folder / "status").read_text()
                return int(status.partition("VmRSS:")[2].split()[0])
        except OSError:
            continue
    raise SystemExit("the guard process was not found")


def outlived_s() -> float:
    """Return the seconds that a machine outlives its killed owner."""
    with (
        Emulator(time="real", startup_s=0.0) as emulator,
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(
            [sys.executable, "-c", OWNER],
            env={"PATH": os.environ["PATH"], "HOME": home, **emulator.environment()},
            stdout=subprocess.PIPE,
            cwd=home,
        ) as owner,
    ):
        assert owner.stdout is not None
        owner.stdout.readline()
        begun = time.perf_counter()
        owner.send_signal(signal.SIGKILL)
        wait_for(lambda: all(each["stopped_at"] for each in emulator.state()["machines"]))
        return time.perf_counter() - begun


def wait_for(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.002)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
