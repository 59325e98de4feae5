"""`comfyloom emulate`, run as a process."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from emulator.clients import TIMEOUT_S, wait_until

_COMMAND = [
    sys.executable,
    "-W",
    "error",
    "-c",
    "from comfyloom_emulator.command import emulate; emulate()",
]


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def _spawn(processes: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*_COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    processes.append(process)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(
    processes: list[subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    ready = tmp_path / "ready.json"
    process = _spawn(processes, "--ready-file", str(ready), "--time", "immediate")
    wait_until(lambda: ready.exists() or process.poll() is not None)
    connection = json.loads(ready.read_text("utf-8"))
    assert sorted(connection) == ["base_url", "token", "user_id", "workflow_version_id"]
    assert stat.S_IMODE(ready.stat().st_mode) == 0o600
    url = f"{connection['base_url']}/prod/api/users/{connection['user_id']}/servers"
    headers = {"Authorization": f"Bearer {connection['token']}"}
    assert requests.get(url, headers=headers, timeout=TIMEOUT_S).json() == []
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "")
    assert connection["base_url"] in err
    assert "RUNCOMFY_API_TOKEN" in err
    assert connection["token"] not in err
    assert err.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


SIGNAL_TO_ANOTHER_THREAD = """
import signal, sys, threading, time
from pathlib import Path
from comfyloom_emulator.command import emulate

def end():
    while not Path(sys.argv[2]).exists():
        time.sleep(0.02)
    time.sleep(0.2)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=end, daemon=True).start()
emulate()
"""


def test_a_signal_that_another_thread_gets_ends_it(tmp_path: Path) -> None:
    """The system chooses the thread; only the main thread may handle it."""
    command = [sys.executable, "-c", SIGNAL_TO_ANOTHER_THREAD, "--ready-file", str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr


def test_prints_the_environment_without_a_ready_file(
    processes: list[subprocess.Popen[str]],
) -> None:
    process = _spawn(processes)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    names = [line.split("=")[0] for line in lines]
    assert names == [
        "export RUNCOMFY_API_TOKEN",
        "export RUNCOMFY_USER_ID",
        "export RUNCOMFY_API_BASE_URL",
        "export RUNCOMFY_WEB_BASE",
        "export RUNCOMFY_WORKFLOW_VERSION_ID",
    ]
    process.terminate()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


def test_a_taken_port_is_reported(processes: list[subprocess.Popen[str]], emulator: object) -> None:
    port = str(emulator.base_url).rpartition(":")[2]  # type: ignore[attr-defined]
    process = _spawn(processes, "--port", port)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err.count("\n")) == (69, "", 1)
    assert port in err


def test_an_unwritable_ready_file_is_reported(
    processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = _spawn(processes, "--ready-file", str(tmp_path / "missing" / "ready.json"))
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err.count("\n")) == (73, "", 1)
    assert "ready.json" in err


def test_help_lists_the_options() -> None:
    run = subprocess.run([*_COMMAND, "-h"], capture_output=True, text=True, check=True)
    for option in ("--port", "--ready-file", "--time", "--startup-s", "--run-s"):
        assert option in run.stdout
