"""Leases and billing, on a manual clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from comfyloom.emulator import Emulator, ManualClock
from emulator.clients import AccountClient, ComfyUIClient, SocketClient, Start, is_end, wait_until
from emulator.lab import flux_mesh, sleep


@pytest.fixture
def emulator(start: Start) -> Emulator:
    return start(time="manual", startup_s=150)


@pytest.fixture
def clock(emulator: Emulator) -> ManualClock:
    assert isinstance(emulator.clock, ManualClock)
    return emulator.clock


def _bill(emulator: Emulator) -> Any:
    (machine,) = emulator.state()["machines"]
    return machine


def _change(account: AccountClient, server_id: str, seconds: int) -> Any:
    return account.call(
        "POST",
        f"/servers/{server_id}/update-estimated-duration",
        json={"update_estimated_duration": seconds},
    ).json()


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_starting_machine_is_not_billed(account: AccountClient, clock: ManualClock) -> None:
    server_id = account.launch()
    clock.advance(149.9)
    assert account.get(server_id)["current_status"] == "Starting"
    assert account.stop(server_id).json()["main_service_url"] is None
    clock.advance(1000)
    machine = _bill(account.emulator)
    assert (machine["status"], machine["billed_seconds"]) == ("Stopped", 0.0)
    assert machine["ready_at"] is None


def test_a_machine_is_billed_from_ready_to_delete(
    account: AccountClient, clock: ManualClock
) -> None:
    server_id = account.launch()
    clock.advance(150)
    assert account.get(server_id)["current_status"] == "Ready"
    clock.advance(42)
    assert _bill(account.emulator)["billed_seconds"] == pytest.approx(42)
    clock.advance(58)
    account.stop(server_id)
    clock.advance(100)
    machine = _bill(account.emulator)
    assert machine["billed_seconds"] == pytest.approx(100)
    assert _epoch(machine["stopped_at"]) - _epoch(machine["ready_at"]) == pytest.approx(100)
    assert _epoch(machine["ready_at"]) - _epoch(machine["launched_at"]) == pytest.approx(150)


def test_a_machine_stops_at_the_end_of_its_lease(
    account: AccountClient, clock: ManualClock
) -> None:
    server_id = account.launch(estimated_duration=600)
    clock.advance(150)
    machine = account.get(server_id)
    lease = _epoch(machine["estimated_stopping_at"]) - _epoch(machine["service_ready_at"])
    assert lease == pytest.approx(600)
    clock.advance(599)
    assert account.get(server_id)["current_status"] == "Ready"
    clock.advance(5000)
    assert account.call("GET", f"/servers/{server_id}").status_code == 404
    assert _bill(account.emulator)["billed_seconds"] == pytest.approx(600)


def test_state_shows_the_end_of_a_lease_without_a_request(
    account: AccountClient, clock: ManualClock
) -> None:
    account.launch(estimated_duration=600)
    clock.advance(10_000)
    machine = _bill(account.emulator)
    assert (machine["status"], machine["billed_seconds"]) == ("Stopped", pytest.approx(600))


def test_the_duration_counts_from_ready(account: AccountClient, clock: ManualClock) -> None:
    server_id = account.launch(estimated_duration=600)
    clock.advance(150 + 500)
    changed = _change(account, server_id, 1000)
    lease = _epoch(changed["estimated_stopping_at"]) - _epoch(changed["service_ready_at"])
    assert (changed["estimated_duration"], lease) == (1000, pytest.approx(1000))
    clock.advance(499)
    assert account.get(server_id)["current_status"] == "Ready"
    clock.advance(2)
    assert account.call("GET", f"/servers/{server_id}").status_code == 404
    assert _bill(account.emulator)["billed_seconds"] == pytest.approx(1000)


def test_a_duration_that_has_passed_stops_the_machine_at_once(
    account: AccountClient, clock: ManualClock
) -> None:
    server_id = account.launch(estimated_duration=600)
    clock.advance(150 + 300)
    _change(account, server_id, 200)
    assert account.call("GET").json() == []
    assert _bill(account.emulator)["billed_seconds"] == pytest.approx(300)


def test_the_duration_can_change_while_starting(account: AccountClient, clock: ManualClock) -> None:
    server_id = account.launch(estimated_duration=600)
    assert _change(account, server_id, 100)["current_status"] == "Starting"
    clock.advance(150 + 101)
    assert account.call("GET").json() == []
    assert _bill(account.emulator)["billed_seconds"] == pytest.approx(100)


def test_leases_do_not_end_without_expire_leases(start: Start) -> None:
    emulator = start(time="manual", expire_leases=False)
    account = AccountClient(emulator)
    server_id = account.launch()
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(10_000)
    assert account.get(server_id)["current_status"] == "Ready"
    account.http.close()


def test_the_end_of_a_lease_kills_runs_and_sockets(
    account: AccountClient, clock: ManualClock
) -> None:
    server_id = account.launch(estimated_duration=600)
    clock.advance(150)
    comfyui = ComfyUIClient(account.get(server_id)["main_service_url"])
    socket = SocketClient(comfyui.url, "c")
    comfyui.submit(sleep(900_000 // 2, "long"), prompt_id="long", client_id="c")
    comfyui.submit(sleep(1, "next"), prompt_id="next", client_id="c")
    wait_until(lambda: comfyui.get("/queue")["queue_running"])
    clock.advance(600)
    assert not is_end(socket.drain()[-1])
    socket.close()
    assert comfyui.call("GET", "/queue").status_code == 502
    statuses = {p["prompt_id"]: p["status"] for p in account.emulator.state()["prompts"]}
    assert statuses == {"long": "error", "next": "deleted"}
    comfyui.http.close()


def test_comfyui_answers_comfyui_delay_s_after_ready(start: Start) -> None:
    emulator = start(time="manual", startup_s=10, comfyui_delay_s=20)
    account = AccountClient(emulator)
    server_id = account.launch()
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(10)
    comfyui = ComfyUIClient(account.get(server_id)["main_service_url"])
    assert comfyui.call("GET", "/system_stats").status_code == 502
    emulator.clock.advance(20)
    assert comfyui.call("GET", "/system_stats").status_code == 200
    account.http.close()
    comfyui.http.close()


def test_an_immediate_run_is_billed_for_the_skipped_time(start: Start) -> None:
    emulator = start(run_s=200)
    account = AccountClient(emulator)
    server_id = account.launch(estimated_duration=900)
    account.get(server_id)
    comfyui = ComfyUIClient(account.get(server_id)["main_service_url"])
    assert comfyui.run(flux_mesh())["status"]["completed"]
    assert _bill(emulator)["billed_seconds"] == pytest.approx(200, abs=5)
    account.http.close()
    comfyui.http.close()
