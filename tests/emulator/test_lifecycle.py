"""Starting, stopping and resetting; imports, and what is left afterwards."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import websocket

from comfyloom.emulator import Emulator, HttpFault, ManualClock
from emulator.clients import (
    TIMEOUT_S,
    AccountClient,
    ComfyUIClient,
    SocketClient,
    Start,
    is_end,
    wait_until,
)
from emulator.lab import flux_mesh, sleep


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(threading.enumerate())
    with Emulator() as emulator:
        comfyui = ComfyUIClient(emulator.comfyui_url)
        comfyui.run(flux_mesh())
        assert list(tmp_path.iterdir())
        comfyui.http.close()
    assert set(threading.enumerate()) == before
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(requests.ConnectionError):
        requests.get(emulator.base_url, timeout=TIMEOUT_S)


def test_close_is_fast_with_open_sockets_and_a_running_prompt() -> None:
    emulator = Emulator(time="real", run_s=500).start()
    comfyui = ComfyUIClient(emulator.comfyui_url)
    socket = SocketClient(comfyui.url, "c")
    comfyui.submit(flux_mesh(), client_id="c")
    wait_until(lambda: comfyui.get("/queue")["queue_running"])
    started = time.monotonic()
    emulator.close()
    emulator.close()
    assert time.monotonic() - started < 0.5
    assert not is_end(socket.drain()[-1])
    socket.close()
    comfyui.http.close()
    assert emulator.state()["prompts"][0]["status"] in {"error", "deleted"}


def test_close_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Emulator(time="manual") as emulator, ThreadPoolExecutor(4) as pool:
        emulator.faults.add(HttpFault(action="hang"), HttpFault(action="delay", seconds=60))
        socket = SocketClient(emulator.comfyui_url, "c")
        requests_out = [
            pool.submit(requests.get, emulator.comfyui_url + "/queue", timeout=TIMEOUT_S)
            for _ in range(2)
        ]
        wait_until(lambda: len(emulator.state()["requests"]) == 3)
        emulator.close()
        assert all(request.exception(TIMEOUT_S) for request in requests_out)
        socket.close()
    assert caplog.records == []


def test_a_start_takes_milliseconds() -> None:
    Emulator().start().close()
    times = []
    for _ in range(5):
        started = time.monotonic()
        emulator = Emulator().start()
        times.append(time.monotonic() - started)
        emulator.close()
    assert min(times) < 0.05


def test_small_requests_do_not_wait_for_acknowledgements(comfyui: ComfyUIClient) -> None:
    comfyui.get("/queue")
    started = time.monotonic()
    for _ in range(20):
        comfyui.get("/queue")
    assert (time.monotonic() - started) / 20 < 0.02


def test_an_emulator_can_be_started_again() -> None:
    emulator = Emulator()
    for _ in range(2):
        with emulator:
            assert requests.get(emulator.comfyui_url + "/queue", timeout=TIMEOUT_S).ok


def test_a_running_emulator_cannot_be_started(emulator: Emulator) -> None:
    with pytest.raises(RuntimeError, match="running already"):
        emulator.start()


def test_the_address_needs_a_start() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        _ = Emulator().base_url


def test_a_taken_port_raises(emulator: Emulator) -> None:
    port = int(emulator.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        Emulator(port=port).start()


@pytest.mark.parametrize(
    "options",
    [
        {"time": "sometimes"},
        {"run_s": -1},
        {"startup_s": "x"},
        {"rate_limit": (0, 1)},
        {"rate_limit": (1, 0)},
        {"workflow_names": ()},
    ],
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - attrs writes the message
        Emulator(**options)  # type: ignore[arg-type]


def test_the_environment_points_to_the_emulator(emulator: Emulator) -> None:
    assert emulator.environment() == {
        "RUNCOMFY_API_TOKEN": emulator.token,
        "RUNCOMFY_USER_ID": emulator.user_id,
        "RUNCOMFY_API_BASE_URL": emulator.base_url,
        "RUNCOMFY_WEB_BASE": emulator.base_url,
        "RUNCOMFY_WORKFLOW_VERSION_ID": emulator.workflow_version_id,
    }
    assert len(set(emulator.environment().values())) == 4
    assert emulator.token != Emulator().token
    assert Emulator(token="mine").token == "mine"


def test_the_state_over_http_equals_state(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    prompt_id = comfyui.submit(sleep())
    comfyui.entry(prompt_id)
    url = emulator.base_url + "/_emulator/state"
    state = requests.get(url, timeout=TIMEOUT_S).json()
    assert state == emulator.state()
    assert state["prompts"] == [{"server_id": "local", "prompt_id": prompt_id, "status": "success"}]


def test_a_reset_removes_everything(
    emulator: Emulator, account: AccountClient, comfyui: ComfyUIClient
) -> None:
    account.launch()
    comfyui.run(sleep())
    emulator.faults.add(HttpFault(path="/queue"))
    answer = requests.post(emulator.base_url + "/_emulator/reset", timeout=TIMEOUT_S)
    assert (answer.status_code, answer.json()) == (200, {})
    assert emulator.state() == {"machines": [], "requests": [], "prompts": []}
    assert account.call("GET").json() == []
    assert comfyui.get("/history") == {}
    assert comfyui.call("GET", "/queue").ok


def test_a_manual_clock_can_be_advanced_over_http(start: Start) -> None:
    manual, immediate = start(time="manual"), start()
    before = manual.clock.now()
    url = manual.base_url + "/_emulator/clock"
    assert requests.post(url, json={"advance": 60}, timeout=TIMEOUT_S).ok
    assert manual.clock.now() - before == pytest.approx(60)
    assert requests.post(url, json={"advance": "x"}, timeout=TIMEOUT_S).status_code == 400
    url = immediate.base_url + "/_emulator/clock"
    assert requests.post(url, json={"advance": 60}, timeout=TIMEOUT_S).status_code == 409


def test_time_cannot_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        ManualClock().advance(-1)


def test_the_import_is_lazy() -> None:
    code = (
        "import sys, comfyloom.emulator\n"
        "print([m for m in ('starlette', 'uvicorn', 'numpy', 'PIL', 'trimesh', 'websockets')"
        " if m in sys.modules])\n"
        "comfyloom.emulator.Emulator\n"
        "print([m for m in ('numpy', 'PIL', 'trimesh') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "[]"]


def test_the_emulator_imports_no_other_package_of_the_project() -> None:
    code = (
        "import sys\n"
        "from comfyloom_emulator import Emulator\n"
        "import comfyloom_emulator.command, comfyloom_emulator.nodes.registry\n"
        "print([m for m in sys.modules if m.startswith('comfyloom')"
        " and m.partition('.')[0] != 'comfyloom_emulator'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_websocket_frames_over_4_mib_are_refused(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("big") as socket:
        socket.next()
        socket.ws.send("x" * (4 * 1024 * 1024 + 1))
        opcode, data = socket.ws.recv_data()
        assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1009).to_bytes(2, "big"))


def test_another_origin_gets_no_socket(comfyui: ComfyUIClient) -> None:
    address = comfyui.url.replace("http", "ws") + "/ws"
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(address, origin="http://evil.example", timeout=TIMEOUT_S)
    assert caught.value.status_code == 403


def test_one_stalled_reader_blocks_all_clients(start: Start) -> None:
    comfyui = ComfyUIClient(start().comfyui_url)
    with comfyui.socket("slow") as slow, comfyui.socket("fast") as fast:
        assert slow.next()["data"]["sid"] == "slow"
        assert fast.next()["data"]["sid"] == "fast"
        for number in range(12):
            message = f"{number}" + "x" * 400_000
            graph = {
                "1": {"class_type": "LabRaise", "inputs": {"message": message}},
                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            }
            comfyui.submit(graph, client_id="slow")
        prompt_id = comfyui.submit(sleep(), client_id="fast")
        assert comfyui.entry(prompt_id)
        kinds = {frame["type"] for frame in fast.rest()}
        assert kinds <= {"status"}
        slow.close()
        fast.event("execution_success")
    comfyui.http.close()


def test_connections_that_come_while_it_stops_are_closed() -> None:
    """None is forgotten: its socket would stay open, and Python would warn of it."""
    for _ in range(20):
        emulator = Emulator().start()
        address = ("127.0.0.1", int(emulator.base_url.rpartition(":")[2]))
        clients = [threading.Thread(target=knock, args=(address,)) for _ in range(3)]
        for client in clients:
            client.start()
        emulator.close()
        for client in clients:
            client.join()
        del emulator
    gc.collect()  # a warning fails the test


def knock(address: tuple[str, int]) -> None:
    """Connect again and again, until the server is gone."""
    with contextlib.suppress(OSError):
        while True:
            socket.create_connection(address, timeout=10).close()
