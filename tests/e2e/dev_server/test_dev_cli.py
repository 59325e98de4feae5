"""`comfyloom dev`, `machines`, `doctor` and `check` from a shell."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom.emulator import Emulator, HttpFault
from shells import COMMAND, Completed, Shell, bare_environment, failed, shell_at
from support import RENDER, machines, running


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator in real time, because the command under test really waits; it is fast."""
    with Emulator(time="real", startup_s=0.0, run_s=0.2, rate_limit=None) as running:
        yield running


@pytest.fixture
def shell(emulator: Emulator, tmp_path: Path) -> Shell:
    """Run `comfyloom` with the emulator's environment, isolated from any real account."""
    return shell_at(tmp_path, emulator.environment())


def parsed(done: Completed) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_job(shell: Shell, *more: str) -> Completed:
    size = ["--width", "64", "--height", "64"]
    return shell(*("run", "flux-mesh", "--input-image", str(RENDER), "--prompt", "x", *size, *more))


def test_up_three_runs_status_and_down_use_one_machine(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    up = parsed(shell("dev", "up", "--json"))
    assert up["health"] == "healthy"
    for number in range(3):
        done = parsed(run_job(shell, "--json", "--out", f"out{number}"))
        assert done["machine"]["server_id"] == up["server_id"]
        assert done["machine"]["borrowed"]
        assert (tmp_path / f"out{number}" / "flux.png").is_file()
    status = parsed(shell("dev", "status", "--json"))
    assert status["server_id"] == up["server_id"]
    assert float(status["session_cost"]) > 0
    down = parsed(shell("dev", "down", "--json"))
    assert down["health"] == "stopped"
    assert len(machines(emulator)) == 1
    assert running(emulator) == []


def test_human_readable_output(emulator: Emulator, shell: Shell) -> None:
    up = shell("dev", "up")
    assert "healthy, ComfyUI 0.3.64" in up.stdout
    assert "medium, 0.99 USD an hour" in up.stdout
    done = run_job(shell)
    assert "the dev server keeps running" in done.stderr
    status = shell("dev", "status").stdout
    assert "ends in 30 min without use" in status
    assert "USD in total" in status
    assert all(line == line.rstrip() for line in status.splitlines())
    down = shell("dev", "down")
    assert "is stopped" in down.stderr
    assert "stopped: there is none" in down.stdout
    assert shell("dev", "status").returncode == 0


def test_no_launch_needs_a_dev_server(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    failed(run_job(shell, "--no-launch", "--out", "new"), 69, "no dev server", "comfyloom dev up")
    assert machines(emulator) == []
    assert not (tmp_path / "new").exists()
    shell("dev", "up")
    assert run_job(shell, "--no-launch").returncode == 0


def test_up_applies_its_options(emulator: Emulator, shell: Shell) -> None:
    up = parsed(
        shell(
            *("dev", "up", "--server-type", "large", "--idle-timeout", "20m"),
            *("--duration", "2h30m", "--warm", "--json"),
        )
    )
    assert up["server_type"] == "large"
    assert 1100 < up["lease_left_s"] <= 1200
    (machine,) = emulator.state()["machines"]
    assert not machine["stopped_at"]
    prompts = [r for r in emulator.state()["requests"] if r["path"].endswith("/prompt")]
    assert len(prompts) == 1  # the warm-up run
    shell("dev", "down")


def test_without_a_version_the_workflow_of_the_account_is_looked_up(
    emulator: Emulator, shell: Shell
) -> None:
    environ = emulator.environment()
    version = environ.pop("RUNCOMFY_WORKFLOW_VERSION_ID")
    assert parsed(shell("dev", "up", "--json", environ=environ))["workflow_version"] == version
    failed(shell("dev", "up", "no-such", environ=environ), 78, "no-such", "flux-mesh")


@pytest.mark.parametrize("time", ["soon", "-5", "5 apples", "0"])
def test_an_invalid_time_is_a_usage_error(shell: Shell, emulator: Emulator, time: str) -> None:
    done = shell("dev", "up", "--idle-timeout", time)
    assert done.returncode == 64
    assert machines(emulator) == []


def test_status_of_an_unreachable_dev_server_has_exit_code_69(
    emulator: Emulator, shell: Shell
) -> None:
    up = parsed(shell("dev", "up", "--json"))
    emulator.faults.add(HttpFault(path="/system_stats$", status=502, times=1000))
    done = shell("dev", "status", "--json")
    assert done.returncode == 69
    assert json.loads(done.stdout)["server_id"] == up["server_id"]
    failed(done, 69, "unreachable")


def test_wrong_settings_are_one_line_on_stderr(shell: Shell, emulator: Emulator) -> None:
    for command in (("dev", "up"), ("dev", "status"), ("machines", "list")):
        failed(shell(*command, environ={}), 78, "RUNCOMFY_API_TOKEN", "RUNCOMFY_USER_ID")
        wrong = emulator.environment() | {"RUNCOMFY_API_TOKEN": "wrong-tok"}
        if command != ("dev", "status"):
            done = shell(*command, environ=wrong)
            failed(done, 77, "token")
            assert "wrong-tok" not in done.stderr + done.stdout
        invalid = emulator.environment() | {"COMFYLOOM_MAX_MACHINES": "few"}
        failed(shell(*command, environ=invalid), 78, "COMFYLOOM_MAX_MACHINES", "whole number")
    wrong = emulator.environment() | {"RUNCOMFY_API_TOKEN": "wrong-tok"}
    full_id = "12345678-1234-1234-1234-123456789012"
    for name in (full_id, "1234"):
        failed(shell("machines", "stop", name, environ=wrong), 77, "token")
    assert machines(emulator) == []


# --- on a terminal -------------------------------------------------------------------------------


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, folder: Path, environ: dict[str, str], *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.seen = ""
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=bare_environment(folder) | environ | {"TERM": "xterm", "COLUMNS": "100"},
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        begun = time.monotonic()
        while text not in self.seen:
            assert time.monotonic() - begun < 30, self.seen
            try:
                self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
            except OSError:
                assert text in self.seen, self.seen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        try:
            while chunk := os.read(self._master, 65536):
                self.seen += chunk.decode("utf-8", "replace")
        except OSError:  # the other end is closed
            pass
        os.close(self._master)
        return self._process.wait(30)


def test_a_machine_type_is_chosen_on_a_terminal(emulator: Emulator, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, emulator.environment(), "dev", "up")
    terminal.wait_for("Server type")
    for word in ("A10G / A5000", "24 GB", "1.75", "RunComfy's pricing page"):
        assert word in terminal.seen
    for wrong in ("9", "huge"):
        terminal.seen = terminal.seen.replace("1 to 5", "")
        terminal.type(f"{wrong}\n")
        terminal.wait_for("1 to 5, or a name")
    terminal.type("2\n")
    assert terminal.end() == 0
    assert "large, 1.75 USD an hour" in terminal.seen
    again = Terminal(tmp_path, emulator.environment(), "dev", "up")
    assert again.end() == 0
    assert "Server type" not in again.seen


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1)])
def test_watching_ends_with_the_offer_to_stop(
    emulator: Emulator, tmp_path: Path, answer: str, left: int
) -> None:
    environ = emulator.environment() | {"RUNCOMFY_DEFAULT_SERVER_TYPE": "medium"}
    terminal = Terminal(tmp_path, environ, "dev", "up", "--watch")
    terminal.wait_for("no prompts")
    terminal.interrupt()
    terminal.wait_for("Stop the dev server")
    terminal.type(f"{answer}\n")
    assert terminal.end() == 0
    assert len(running(emulator)) == left


# --- machines ------------------------------------------------------------------------------------


def launch_foreign(emulator: Emulator) -> str:
    """Launch a machine as another user of the same account would."""
    from comfyloom._runcomfy.client import ServerApi

    api = ServerApi(emulator.base_url, emulator.user_id, emulator.token)
    server = api.launch(emulator.workflow_version_id, "large", 3600)
    api.close()
    return server.server_id


def test_listing_says_who_launched_each_machine(emulator: Emulator, shell: Shell) -> None:
    foreign = launch_foreign(emulator)
    own = parsed(shell("dev", "up", "--json"))["server_id"]
    listed = {
        row["server_id"]: row for row in parsed(shell("machines", "list", "--json"))["machines"]
    }
    assert listed[own]["whose"] == "dev server"
    assert listed[foreign]["whose"] == "others"
    assert listed[foreign]["usd_per_hour"] == "1.75"
    assert "main_service_url" not in listed[own]
    table = shell("machines", "list")
    assert "2 machines, 2.74 USD an hour" in table.stderr
    assert len(table.stdout.splitlines()) == 3
    shown = parsed(shell("machines", "show", own[:8], "--json"))
    assert shown["server_id"] == own


def test_stop_by_id_or_all_from_this_computer(emulator: Emulator, shell: Shell) -> None:
    foreign = launch_foreign(emulator)
    own = parsed(shell("dev", "up", "--json"))["server_id"]
    assert shell("machines", "stop", "--all-mine").returncode == 64  # not interactive
    assert set(running(emulator)) == {foreign, own}
    (stopped,) = parsed(shell("machines", "stop", "--all-mine", "--yes", "--json"))["machines"]
    assert stopped == {"server_id": own, "stopped": True, "error": None}
    assert running(emulator) == [foreign]
    assert parsed(shell("dev", "status", "--json"))["health"] == "stopped"
    assert shell("machines", "stop", "--all-mine", "--yes").returncode == 0
    assert running(emulator) == [foreign]
    done = shell("machines", "stop", "no-such-machine", foreign)
    failed(done, 69, "no machine no-such-machine")
    assert running(emulator) == []


def test_all_mine_asks_on_a_terminal(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    shell("dev", "up")
    for answer, left in (("n", 1), ("y", 0)):
        terminal = Terminal(tmp_path, emulator.environment(), "machines", "stop", "--all-mine")
        terminal.wait_for("Stop 1 machine?")
        terminal.type(f"{answer}\n")
        assert terminal.end() == 0
        assert len(running(emulator)) == left


def test_extend_adds_to_the_lease(emulator: Emulator, shell: Shell) -> None:
    own = parsed(shell("dev", "up", "--json"))["server_id"]
    before = parsed(shell("machines", "show", own, "--json"))["estimated_duration"]
    longer = parsed(shell("machines", "extend", own, "1h", "--json"))
    assert longer["estimated_duration"] == before + 3600
    assert "60 min more, at most 0.9900 USD" in shell("machines", "extend", own, "3600").stderr
    failed(shell("machines", "extend", "unknown", "60"), 69, "no machine unknown")
    assert shell("machines", "extend", own, "0").returncode == 64


def test_a_stop_is_repeated_until_it_is_confirmed(emulator: Emulator, shell: Shell) -> None:
    foreign = launch_foreign(emulator)
    emulator.faults.add(HttpFault(path="/servers/", method="DELETE", status=500, times=3))
    assert shell("machines", "stop", foreign).returncode == 0
    assert running(emulator) == []


# --- doctor and check ----------------------------------------------------------------------------


def test_doctor_reports_settings_account_and_machines(emulator: Emulator, shell: Shell) -> None:
    foreign = launch_foreign(emulator)
    done = shell("doctor")
    assert done.returncode == 0, done.stdout
    for word in ("RUNCOMFY_API_TOKEN", "default", "accepted by", "agrees", foreign, "1.75 USD"):
        assert word in done.stdout
    assert emulator.token not in done.stdout
    report = parsed(shell("doctor", "--json"))
    assert report["settings"]["api_token"] == {"value": True, "source": "RUNCOMFY_API_TOKEN"}
    assert report["settings"]["max_machines"] == {"value": None, "source": "default"}
    assert {"token", "clock", "machines", "prices"} <= {
        finding["check"] for finding in report["findings"]
    }


def test_doctor_has_the_exit_code_of_the_first_error(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    nothing = shell("doctor", environ={})
    assert nothing.returncode == 78
    assert "api_token is missing" in nothing.stdout
    wrong = shell("doctor", environ=emulator.environment() | {"RUNCOMFY_API_TOKEN": "tok-wrong"})
    assert wrong.returncode == 77
    assert "tok-wrong" not in wrong.stdout
    version = {"RUNCOMFY_WORKFLOW_VERSION_ID": "mine"}
    found = shell("doctor", environ=emulator.environment() | version)
    assert found.returncode == 78
    assert "no workflow version mine" in found.stdout
    away = emulator.environment() | {"RUNCOMFY_API_BASE_URL": "http://127.0.0.1:1"}
    assert shell("doctor", environ=away).returncode == 69
    (tmp_path / "credentials.txt").write_text("userID: u\n")
    readable = shell("doctor", environ={"RUNCOMFY_API_TOKEN": "tok-1234"})
    assert "chmod 600" in readable.stdout


def test_doctor_recognizes_a_workflow_id_given_as_version_id(
    emulator: Emulator, shell: Shell
) -> None:
    from comfyloom._runcomfy.client import ServerApi

    api = ServerApi(emulator.base_url, emulator.user_id, emulator.token)
    mistaken = api.list_workflows()[0].workflow_id
    api.close()
    version = {"RUNCOMFY_WORKFLOW_VERSION_ID": mistaken}
    found = shell("doctor", environ=emulator.environment() | version)
    assert (
        f"that is its workflow id; its version id is {emulator.workflow_version_id}" in found.stdout
    )


def test_check_compares_a_workflow_with_a_server(emulator: Emulator, shell: Shell) -> None:
    done = shell("check", "flux-mesh", "--target", emulator.comfyui_url)
    assert done.returncode == 0
    assert "flux-mesh can run on this server" in done.stdout
    failed(shell("check", "flux-mesh"), 69, "no dev server")
    shell("dev", "up")
    assert parsed(shell("check", "flux-mesh", "--json"))["fits"]
    failed(shell("check", "no-such"), 78, "flux-mesh")


def test_every_command_has_help_and_json(shell: Shell) -> None:
    for command in (
        ("dev",),
        *(("dev", name) for name in ("up", "status", "down", "restart")),
        ("machines",),
        *(("machines", name) for name in ("list", "show", "stop", "extend")),
        ("doctor",),
        ("check",),
    ):
        done = shell(*command, "-h", environ={})
        assert done.returncode == 0
        assert "--help" in done.stdout
        if command not in (("dev",), ("machines",)):
            assert "--json" in done.stdout
