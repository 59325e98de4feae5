"""One JSON document of one form from every command, whether it succeeds or fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Comfyloom
from comfyloom.cli.json_output import describe
from comfyloom.emulator import Emulator, HttpFault
from comfyloom.errors import MachineLeak
from support import RENDER, ROOT, free_port

WORKFLOWS = ROOT / "workflows"
RUN = ("run", "flux-mesh", "--input-image", RENDER, "--prompt", "x", "--width", "64")


def document(comfyloom: Comfyloom, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = comfyloom(*arguments, "--json")
    return done.code, json.loads(done.out)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("available",), {"available", "why", "wait_s", "usd_per_hour"}),
        (("dev", "status"), {"health", "server_id", "session_cost"}),
        (("dev", "down"), {"health"}),
        (("machines", "list"), {"machines"}),
        (("machines", "reap"), {"machines"}),
        (("machines", "reap", "--dry-run"), {"machines"}),
        (("doctor",), {"settings", "findings"}),
        (("check", "flux-mesh", "--target", "emulator"), {"workflow", "fits", "findings"}),
        (RUN, {"workflow", "files", "seed", "machine", "cost_usd"}),
        (("codegen", "--check", "--workflows", WORKFLOWS, "--out", ROOT / "generated"), {"drift"}),
        (("codegen", "inspect", WORKFLOWS / "generate_flux_mesh.json"), {"nodes"}),
    ],
)
def test_success(
    account: Emulator, comfyloom: Comfyloom, arguments: tuple[str, ...], keys: set[str]
) -> None:
    code, found = document(comfyloom, *arguments)
    assert code == 0
    assert found["ok"] is True
    assert "error" not in found
    assert keys <= found.keys()


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("machines", "stop", "none-such"), 69, "MachineError"),
        (("machines", "show", "none-such"), 69, "MachineError"),
        (("machines", "extend", "none-such", "15m"), 69, "MachineError"),
        (("check", "flux-mesh"), 69, "MachineError"),
        (("check", "no-such-workflow"), 78, "ConfigError"),
        (("run", "flux-mesh", "--input-image", "none.png", "--prompt", "x"), 66, "InputFileError"),
        ((*RUN, "--steps", "0"), 65, "InputValueError"),
        ((*RUN, "--no-launch"), 69, "MachineError"),
        ((*RUN, "--target", "ftp://x"), 78, "ConfigError"),
        (("available", "--no-launch"), 69, "MachineError"),
        (("codegen", "--workflows", "none"), 66, "InputFileError"),
        (("codegen", "inspect", "none.json"), 66, "InputFileError"),
        (("run", "flux-mesh", "--no-such-option"), 64, "NoSuchOption"),
        (("machines", "stop"), 64, "UsageError"),
    ],
)
def test_failure(
    account: Emulator,
    comfyloom: Comfyloom,
    arguments: tuple[str, ...],
    code: int,
    name: str,
) -> None:
    found_code, found = document(comfyloom, *arguments)
    assert found_code == code
    assert found["ok"] is False
    assert found["error"].keys() == {"code", "message", "hint", "details"}
    assert found["error"]["code"] == name
    assert found["error"]["message"]
    assert found["error"]["details"]["exit_code"] == code


def test_what_is_known_comes_with_the_error(account: Emulator, comfyloom: Comfyloom) -> None:
    assert comfyloom("dev", "up", "flux-mesh", "--server-type", "medium").code == 0
    account.faults.add(HttpFault(path="/comfyui/", status=502, times=10_000))
    code, found = document(comfyloom, "dev", "status")
    assert (code, found["ok"], found["error"]["code"]) == (69, False, "MachineError")
    assert found["health"] == "unreachable"
    account.faults.clear()
    code, found = document(comfyloom, "dev", "down")
    assert (code, found["ok"], found["health"]) == (0, True, "stopped")


def test_findings_of_the_doctor_come_with_the_error(
    account: Emulator, comfyloom: Comfyloom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_API_TOKEN", "wrong-t0ken")
    code, found = document(comfyloom, "doctor")
    assert (code, found["error"]["code"]) == (77, "Unauthorized")
    assert found["error"]["hint"] == "sign in again: comfyloom login"
    assert found["findings"]
    assert "wrong-t0ken" not in json.dumps(found)


def test_drift_is_a_failure_with_its_files(
    account: Emulator, comfyloom: Comfyloom, here: Path
) -> None:
    arguments = ("codegen", "--check", "--workflows", WORKFLOWS, "--out", here / "generated")
    code, found = document(comfyloom, *arguments)
    assert (code, found["ok"]) == (1, False)
    assert "not up to date" in found["error"]["message"]
    assert found["drift"]


def test_without_the_option_stdout_has_no_document(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom("machines", "stop", "none-such")
    assert (done.code, done.out) == (69, "")


def test_no_settings_are_a_failure_too(
    comfyloom: Comfyloom, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNCOMFY_API_TOKEN", "RUNCOMFY_API_KEY", "RUNCOMFY_TOKEN", "RUNCOMFY_USER_ID"):
        monkeypatch.delenv(name, raising=False)
    code, found = document(comfyloom, "machines", "list")
    assert (code, found["error"]["code"]) == (78, "ConfigError")
    assert found["error"]["details"]["problems"]
    code, found = document(comfyloom, "available", "--target", f"http://127.0.0.1:{free_port()}")
    assert (code, found["available"], found["wait_s"]) == (69, False, None)


def test_an_error_is_described_by_its_fields() -> None:
    found = describe(MachineLeak("it may run", server_id="s-1", reason="no answer"))
    assert found["code"] == "MachineLeak"
    assert found["details"]["server_id"] == "s-1"
    assert found["details"]["reason"] == "no answer"
    assert "already_printed" not in found["details"]
    assert found["hint"].startswith("stop it by hand")
    assert json.dumps(found)
