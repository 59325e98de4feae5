"""Scripted faults, from the client's point of view."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import websocket

from comfyloom.emulator import (
    Emulator,
    HttpFault,
    MachineFault,
    ManualClock,
    RunFault,
    SocketFault,
)
from emulator.clients import TIMEOUT_S, AccountClient, ComfyUIClient, Start, is_end, wait_until
from emulator.lab import flux_mesh, sleep


def test_a_status_fault_strikes_as_often_as_scripted(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    emulator.faults.add(HttpFault(path="/queue$", times=2, after=1, status=503, body="busy"))
    statuses = [comfyui.call("GET", "/queue").status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert emulator.faults.pending() == []


def test_a_fault_can_set_headers_and_be_limited_to_a_method(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    emulator.faults.add(HttpFault(method="POST", status=429, headers={"Retry-After": "7"}))
    assert comfyui.call("GET", "/queue").status_code == 200
    response = comfyui.call("POST", "/queue", json={})
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")


def test_a_dropped_launch_launches_nothing(emulator: Emulator, account: AccountClient) -> None:
    emulator.faults.add(HttpFault(action="drop", method="POST", path="/servers$"))
    with pytest.raises(requests.ConnectionError):
        account.post_launch()
    assert account.call("GET").json() == []
    assert emulator.state()["requests"][0]["status"] == 0


def test_a_launch_whose_answer_is_lost_leaves_a_machine(
    emulator: Emulator, account: AccountClient
) -> None:
    emulator.faults.add(HttpFault(action="lose_answer", method="POST", path="/servers$"))
    with pytest.raises(requests.ConnectionError):
        account.post_launch(estimated_duration=901)
    assert [m["estimated_duration"] for m in account.call("GET").json()] == [901]


def test_a_body_can_be_cut(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    emulator.faults.add(HttpFault(action="cut", path="/view$", size=1000))
    path = "/view?filename=example.png&type=input"
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        comfyui.call("GET", path)
    assert len(comfyui.call("GET", path).content) > 1000


def test_a_delay_passes_in_the_emulators_time(start: Start) -> None:
    emulator = start(time="manual")
    comfyui = ComfyUIClient(emulator.comfyui_url)
    emulator.faults.add(HttpFault(action="delay", path="/queue", seconds=30))
    with pytest.raises(requests.ReadTimeout):
        requests.get(comfyui.url + "/queue", timeout=0.05)
    immediate = start()
    immediate.faults.add(HttpFault(action="delay", path="/queue", seconds=30))
    before = immediate.clock.now()
    assert requests.get(immediate.comfyui_url + "/queue", timeout=TIMEOUT_S).ok
    assert immediate.clock.now() - before >= 30
    comfyui.http.close()


def test_a_hanging_request_ignores_skipped_time(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    emulator.faults.add(HttpFault(action="hang", path="/queue"))
    with pytest.raises(requests.ReadTimeout):
        requests.get(comfyui.url + "/queue", timeout=0.05)
    assert comfyui.call("GET", "/queue").ok


def test_a_socket_can_be_refused(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    emulator.faults.add(SocketFault(action="refuse"))
    with pytest.raises(websocket.WebSocketBadStatusException), comfyui.socket("c"):
        pass
    with comfyui.socket("c") as socket:
        assert socket.next()["type"] == "status"
    statuses = [r["status"] for r in emulator.state()["requests"]]
    assert statuses == [503, 101]


def test_a_socket_can_be_dropped_after_some_frames(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    emulator.faults.add(SocketFault(action="drop", frames=3))
    with comfyui.socket("c") as socket:
        prompt_id = comfyui.submit(sleep(), client_id="c")
        assert len(socket.drain()) == 3
    assert comfyui.entry(prompt_id)["status"]["completed"]


def test_a_socket_can_go_silent(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    emulator.faults.add(SocketFault(action="silence", frames=2))
    with comfyui.socket("c") as socket:
        prompt_id = comfyui.submit(sleep(), client_id="c")
        assert comfyui.entry(prompt_id)
        assert len(socket.rest()) == 2


def test_a_node_can_raise(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    fault = RunFault(
        class_type="XlabsSampler",
        step=3,
        exception_type="torch.OutOfMemoryError",
        message="Allocation on device",
    )
    emulator.faults.add(fault)
    status = comfyui.run(flux_mesh())["status"]
    event, data = status["messages"][-1]
    assert (event, status["status_str"]) == ("execution_error", "error")
    assert data["exception_type"] == "torch.OutOfMemoryError"
    assert data["exception_message"] == "Allocation on device\n"
    assert (data["node_id"], data["node_type"]) == ("3", "XlabsSampler")
    assert comfyui.run(flux_mesh())["status"]["completed"]


def test_an_output_can_be_missing_from_the_history(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    emulator.faults.add(RunFault(action="no_output", node="33"))
    entry = comfyui.run(flux_mesh())
    assert entry["status"]["completed"]
    assert [*entry["outputs"]] == ["24"]


@pytest.mark.parametrize("size", [0, 100])
def test_an_output_file_can_be_truncated(
    emulator: Emulator, comfyui: ComfyUIClient, size: int
) -> None:
    emulator.faults.add(RunFault(action="truncate", class_type="SaveImage", size=size))
    outputs = comfyui.run(flux_mesh())["outputs"]
    assert len(comfyui.view(outputs["24"]["images"][0])) == size
    assert len(comfyui.view(outputs["33"]["3d"][0])) > 1000


def test_a_machine_can_die_during_a_run(emulator: Emulator, account: AccountClient) -> None:
    emulator.faults.add(RunFault(action="die", node="3", step=5))
    server_id = account.launch()
    account.get(server_id)
    comfyui = ComfyUIClient(account.get(server_id)["main_service_url"])
    with comfyui.socket("c") as socket:
        comfyui.submit(flux_mesh(), client_id="c")
        assert not is_end(socket.drain()[-1])
    assert comfyui.call("GET", "/queue").status_code == 502
    (machine,) = emulator.state()["machines"]
    assert machine["status"] == "Stopped"
    assert machine["billed_seconds"] > 0
    assert emulator.state()["prompts"][0]["status"] == "error"
    assert account.call("GET").json() == []
    comfyui.http.close()


def test_a_restart_loses_everything_but_files(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    first = comfyui.run(flux_mesh())
    changed = flux_mesh("a jade frog")
    emulator.faults.add(RunFault(action="restart", node="3"))
    with comfyui.socket("c") as socket:
        comfyui.submit(changed, client_id="c")
        assert not is_end(socket.drain()[-1])
    wait_until(lambda: comfyui.get("/queue")["queue_running"] == [])
    assert comfyui.get("/history") == {}
    assert len(comfyui.view(first["outputs"]["24"]["images"][0])) > 1000
    response = comfyui.post(changed)
    assert response.json()["number"] == 0
    entry = comfyui.entry(response.json()["prompt_id"])
    assert entry["outputs"]["24"]["images"][0]["filename"] == "flux_00002_.png"


def test_a_hanging_node_sends_no_events(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    emulator.faults.add(RunFault(action="hang", node="1"))
    with comfyui.socket("c") as socket:
        comfyui.submit(sleep(), prompt_id="a", client_id="c")
        socket.event("executing")
        assert socket.rest() == []
        assert [item[1] for item in comfyui.get("/queue")["queue_running"]] == ["a"]


def test_a_start_can_fail(emulator: Emulator, account: AccountClient) -> None:
    emulator.faults.add(MachineFault(action="error"))
    server_id = account.launch()
    statuses = [account.get(server_id)["current_status"] for _ in range(2)]
    assert statuses == ["Starting", "Error"]
    account.stop(server_id)
    assert emulator.state()["machines"][0]["billed_seconds"] == 0


def test_a_start_can_last_forever(start: Start) -> None:
    emulator = start(time="manual")
    account = AccountClient(emulator)
    emulator.faults.add(MachineFault(action="never_ready"))
    server_id = account.launch()
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(10_000)
    assert account.get(server_id)["current_status"] == "Starting"
    account.http.close()


def test_a_machine_can_be_unknown_to_the_first_status_requests(
    emulator: Emulator, account: AccountClient
) -> None:
    emulator.faults.add(MachineFault(action="not_found", calls=2))
    server_id = account.launch()
    codes = [account.call("GET", f"/servers/{server_id}").status_code for _ in range(3)]
    assert codes == [404, 404, 200]


def test_a_machine_can_appear_late(start: Start) -> None:
    emulator = start(time="manual")
    account = AccountClient(emulator)
    emulator.faults.add(MachineFault(action="late", seconds=5))
    server_id = account.launch()
    assert account.call("GET").json() == []
    assert account.stop(server_id).status_code == 404
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(5)
    assert [m["server_id"] for m in account.call("GET").json()] == [server_id]
    account.http.close()


def ids(account: AccountClient) -> list[str]:
    return [machine["server_id"] for machine in account.call("GET").json()]


def advance(emulator: Emulator, seconds: float) -> None:
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(seconds)


def test_a_young_machine_is_listed_but_not_found(start: Start) -> None:
    emulator = start(time="manual")
    account = AccountClient(emulator)
    emulator.faults.add(MachineFault(action="young", seconds=5))
    server_id = account.launch()
    assert ids(account) == [server_id]
    for method in ("GET", "DELETE"):
        assert account.call(method, f"/servers/{server_id}").status_code == 404
    advance(emulator, 5)
    assert account.stop(server_id).status_code == 200
    account.http.close()


def test_a_machine_can_be_listed_late(start: Start) -> None:
    emulator = start(time="manual")
    account = AccountClient(emulator)
    emulator.faults.add(MachineFault(action="unlisted", seconds=5))
    server_id = account.launch()
    assert ids(account) == []
    assert account.get(server_id)["current_status"] == "Starting"
    advance(emulator, 5)
    assert ids(account) == [server_id]
    account.http.close()


def test_a_stopped_machine_can_linger_as_deleting(start: Start) -> None:
    emulator = start(time="manual", startup_s=0)
    account = AccountClient(emulator)
    emulator.faults.add(MachineFault(action="lingers", seconds=60))
    server_id = account.launch()
    advance(emulator, 10)
    account.stop(server_id)
    advance(emulator, 30)
    assert account.get(server_id)["current_status"] == "Deleting"
    assert ids(account) == [server_id]
    assert emulator.state()["machines"][0]["billed_seconds"] == 10
    advance(emulator, 30)
    assert ids(account) == []
    assert account.stop(server_id).status_code == 404
    account.http.close()


def test_another_user_can_launch_and_stop_machines(
    emulator: Emulator, account: AccountClient
) -> None:
    foreign = emulator.launch_foreign("large", 1234)
    assert account.get(foreign)["estimated_duration"] == 1234
    url = f"{emulator.base_url}/_emulator/machines"
    other = requests.post(url, json={}, timeout=TIMEOUT_S).json()["server_id"]
    assert set(ids(account)) == {foreign, other}
    emulator.steal(foreign)
    assert requests.delete(f"{url}/{other}", timeout=TIMEOUT_S).status_code == 200
    assert ids(account) == []
    assert requests.delete(f"{url}/unknown", timeout=TIMEOUT_S).status_code == 404
    assert requests.post(url, json={"server_type": "x"}, timeout=TIMEOUT_S).status_code == 400
    for wrong in (("gigantic", 60), ("medium", 0)):
        with pytest.raises(ValueError, match="must be"):
            emulator.launch_foreign(*wrong)
    with pytest.raises(LookupError, match="no machine"):
        emulator.steal("unknown")


def test_the_date_header_can_be_skewed(start: Start) -> None:
    from email.utils import parsedate_to_datetime

    emulator = start(time="manual", date_skew_s=3600.0)
    account = AccountClient(emulator)
    date = parsedate_to_datetime(account.call("GET").headers["Date"]).timestamp()
    assert date - emulator.clock.now() == pytest.approx(3600, abs=1)
    account.http.close()


def test_faults_can_be_scripted_over_http(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    url = emulator.base_url + "/_emulator/faults"
    faults = [{"kind": "http", "path": "/queue", "status": 500}, {"kind": "run", "node": "1"}]
    assert requests.post(url, json=faults, timeout=TIMEOUT_S).json() == {"pending": 2}
    assert emulator.faults.pending() == [
        HttpFault(path="/queue", status=500),
        RunFault(node="1"),
    ]
    assert comfyui.call("GET", "/queue").status_code == 500
    requests.delete(url, timeout=TIMEOUT_S)
    assert emulator.faults.pending() == []


@pytest.mark.parametrize(
    "fault",
    [
        [1],
        {"kind": "nosuch"},
        {"kind": "http", "nosuch": 1},
        {"kind": "http", "path": "("},
        {"kind": "http", "times": -1},
        {"kind": "run", "action": "nosuch"},
        {"kind": "machine", "seconds": "x"},
    ],
)
def test_invalid_faults_are_refused(emulator: Emulator, fault: Any) -> None:
    url = emulator.base_url + "/_emulator/faults"
    response = requests.post(url, json=fault, timeout=TIMEOUT_S)
    assert response.status_code == 400
    assert response.json()["message"]
