"""What `comfyloom doctor` finds, and what it advises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Comfyloom
from comfyloom.emulator import Emulator, HttpFault
from comfyloom_workflows import FluxMeshWorkflow


@pytest.fixture
def findings(comfyloom: Comfyloom) -> Any:
    """Return the findings of a check, by its name."""

    def of(check: str) -> list[dict[str, Any]]:
        report = json.loads(comfyloom("doctor", "--json").out)
        return [each for each in report["findings"] if each["check"] == check]

    return of


@pytest.fixture
def fast_clock(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An account whose server is a minute ahead."""
    with Emulator(time="real", rate_limit=None, date_skew_s=60.0) as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COMFYLOOM_LEDGER", str(here / "ledger.db"))
        yield found


def test_a_sound_account_has_no_warning(account: Emulator, comfyloom: Comfyloom) -> None:
    done = comfyloom("doctor")
    assert done.code == 0, done.out
    assert "✗" not in done.out
    assert "!" not in done.out
    assert account.token not in done.out + done.err
    assert "token: accepted by" in done.out
    assert "machines: none running" in done.out
    assert "comfyloom dev up starts one" in done.out


def test_a_clock_that_is_behind_is_reported(fast_clock: Emulator, findings: Any) -> None:
    assert fast_clock.base_url
    (found,) = findings("clock")
    assert found["state"] == "warning"
    assert "s behind RunComfy's" in found["message"]
    assert "set this computer's clock" in found["advice"]


@pytest.mark.usefixtures("account")
def test_a_healthy_dev_server_and_its_comfyui(comfyloom: Comfyloom, findings: Any) -> None:
    assert comfyloom("dev", "up").code == 0
    (found,) = findings("dev server")
    assert found["state"] == "ok"
    assert "healthy" in found["message"]
    (version,) = findings("ComfyUI")
    assert version["message"] == "0.3.64"
    (machine, total) = findings("machines")
    assert (machine["state"], machine["advice"]) == ("ok", "")
    assert total["message"] == "0.99 USD an hour in all"
    assert comfyloom("dev", "down").code == 0


def test_an_unreachable_dev_server_is_an_error_with_advice(
    account: Emulator, comfyloom: Comfyloom, findings: Any
) -> None:
    comfyloom("dev", "up")
    account.faults.add(HttpFault(path="/system_stats", status=502, times=100))
    (found,) = findings("dev server")
    assert (found["state"], found["code"]) == ("error", 69)
    assert "unreachable" in found["message"]
    assert "comfyloom dev restart" in found["advice"]
    assert findings("ComfyUI") == []
    assert findings("prices")[0]["state"] == "ok"  # later checks run all the same
    account.faults.clear()
    comfyloom("dev", "down", "--force")


def test_a_machine_of_others_is_a_warning(account: Emulator, findings: Any) -> None:
    server_id = account.launch_foreign("large")
    machine, total = findings("machines")
    assert machine["state"] == "warning"
    assert "launched from elsewhere" in machine["message"]
    assert machine["advice"].startswith(f"comfyloom machines stop {server_id}")
    assert total["message"] == "1.75 USD an hour in all"


def test_a_machine_of_unknown_price_is_counted_apart(
    account: Emulator, findings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.launch_foreign("large")
    account.launch_foreign("medium")
    monkeypatch.setattr("comfyloom._money.prices.PriceList.per_hour", _only_medium)
    *_, total = findings("machines")
    assert total["message"] == "0.99 USD an hour and 1 at an unknown price in all"


def _only_medium(self: object, server_type: str) -> Any:
    from decimal import Decimal

    return Decimal("0.99") if server_type == "medium" else None


@pytest.mark.usefixtures("account")
def test_a_price_that_is_not_known_is_a_warning_and_a_given_one_names_its_source(
    findings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_DEFAULT_SERVER_TYPE", "enormous")
    (found,) = findings("prices")
    assert (found["state"], found["advice"]) == (
        "warning",
        "set it: COMFYLOOM_PRICES, or prices in pyproject.toml",
    )
    monkeypatch.setenv("COMFYLOOM_PRICES", "enormous=9.5")
    (found,) = findings("prices")
    assert found["state"] == "ok"
    assert "9.5 USD an hour (COMFYLOOM_PRICES)" in found["message"]


@pytest.mark.usefixtures("account")
def test_a_damaged_state_file_does_not_hide_the_other_findings(here: Path, findings: Any) -> None:
    (here / "dev.json").write_text("{")
    (found,) = findings("state file")
    assert (found["state"], found["code"]) == ("error", 74)
    assert "it is not JSON" in found["message"]
    assert findings("dev server") == []
    assert findings("machines")


@pytest.mark.usefixtures("account")
def test_a_broken_ledger_does_not_hide_the_machines(
    here: Path, findings: Any, comfyloom: Comfyloom
) -> None:
    (here / "ledger.db").write_text("this is not a database, but long enough to look like one")
    (found,) = findings("ledger")
    assert (found["state"], found["code"]) == ("error", 74)
    assert findings("machines")
    assert comfyloom("doctor").code == 74


def test_the_version_is_found_by_name_or_the_account_says_what_it_has(
    account: Emulator, findings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = findings("workflow version")
    assert account.workflow_version_id in found["message"]
    assert "(generate_flux_mesh)" in found["message"]
    monkeypatch.delenv("RUNCOMFY_WORKFLOW_VERSION_ID")
    # The other three are parts of it, and run on its machines.
    (found,) = findings("workflow version")
    assert (found["message"], found["state"]) == ("found generate_flux_mesh by name", "ok")


@pytest.mark.parametrize(
    ("saved", "count"), [(["other"], "no"), (["generate_flux_mesh", "generate_flux_mesh"], "2")]
)
def test_an_account_without_the_workflow_is_told_what_to_do(
    here: Path,
    comfyloom: Comfyloom,
    monkeypatch: pytest.MonkeyPatch,
    saved: list[str],
    count: str,
) -> None:
    with Emulator(workflow_names=saved, rate_limit=None) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("RUNCOMFY_WORKFLOW_VERSION_ID")
        report = json.loads(comfyloom("doctor", "--json").out)
    (found,) = [each for each in report["findings"] if each["check"] == "workflow version"]
    assert found["state"] == "warning"
    assert f"the account has {count} workflow" in found["message"]
    assert "runs_on" in found["advice"]


def test_without_settings_nothing_is_asked(comfyloom: Comfyloom, findings: Any) -> None:
    done = comfyloom("doctor")
    assert done.code == 78
    assert "api_token is missing: set RUNCOMFY_API_TOKEN" in done.out
    assert findings("token") == []


@pytest.mark.usefixtures("here")
def test_no_workflow_or_two_of_one_name(findings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyloom.cli.workflows._all_classes", lambda: iter(()))
    (found,) = findings("workflow classes")
    assert (found["state"], found["message"]) == ("note", "none installed")

    class Rival(FluxMeshWorkflow):
        pass

    monkeypatch.setattr(
        "comfyloom.cli.workflows._all_classes", lambda: iter([FluxMeshWorkflow, Rival])
    )
    (found,) = findings("workflow classes")
    assert (found["state"], found["code"]) == ("error", 78)
    assert "two workflows are named flux-mesh" in found["message"]
