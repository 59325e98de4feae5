"""The queue: order, interrupts and worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyloom.emulator import Emulator, ManualClock
from emulator.clients import ComfyUIClient, Start, wait_until
from emulator.lab import flux_mesh, sleep
from support import RECORDINGS


@pytest.fixture
def emulator(start: Start) -> Emulator:
    return start(time="manual")


def _finish(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    assert isinstance(emulator.clock, ManualClock)
    while comfyui.get("/prompt")["exec_info"]["queue_remaining"]:
        emulator.clock.advance(1000)


def _running(comfyui: ComfyUIClient) -> list[str]:
    return [item[1] for item in comfyui.get("/queue")["queue_running"]]


def test_pending_prompts_are_listed_as_a_heap_and_run_in_order(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    comfyui.submit(sleep(100, "run"), prompt_id="run", extra_data={"api_key_comfy_org": "S"})
    wait_until(lambda: _running(comfyui))
    for name in ("p0", "p1", "p2", "p3"):
        comfyui.submit(sleep(1, name), prompt_id=name)
    comfyui.submit(sleep(1, "front"), prompt_id="front", front=True)
    comfyui.submit(sleep(1, "numneg"), prompt_id="numneg", number=-5)
    comfyui.submit(sleep(1, "num2.5"), prompt_id="num2.5", number=2.5)
    queue = comfyui.get("/queue")
    # In the recording, random ids decided between equal numbers; here, front precedes numneg.
    pending = [[item[0], item[1]] for item in queue["queue_pending"]]
    recorded = json.loads((RECORDINGS / "http" / "queue_order_note.json").read_text("utf-8"))
    assert pending == recorded["pending_order_as_listed"]
    assert queue["queue_running"][0][3] == {"api_key_comfy_org": "S"}
    _finish(emulator, comfyui)
    order = json.loads((RECORDINGS / "http" / "queue_execution_order.json").read_text("utf-8"))
    assert [*comfyui.get("/history")] == [name for _, name in order]
    assert comfyui.entry("run")["prompt"][3] == {}


def test_an_interrupt_with_an_id_stops_only_that_prompt(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    comfyui.submit(sleep(5000, "a"), prompt_id="a")
    comfyui.submit(sleep(1, "b"), prompt_id="b")
    wait_until(lambda: _running(comfyui) == ["a"])
    comfyui.call("POST", "/interrupt", json={"prompt_id": "b"})
    assert _running(comfyui) == ["a"]
    comfyui.call("POST", "/interrupt", json={"prompt_id": "a"})
    entry = comfyui.entry("a")
    assert entry["status"]["status_str"] == "error"
    assert not entry["status"]["completed"]
    event, data = entry["status"]["messages"][-1]
    assert event == "execution_interrupted"
    assert (data["node_id"], data["node_type"], data["executed"]) == ("1", "LabSleep", [])
    _finish(emulator, comfyui)
    assert comfyui.entry("b")["status"]["completed"]


def test_an_interrupt_takes_effect_only_where_a_node_checks_it(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    comfyui.submit(sleep(5000, "a", interruptible=False), prompt_id="a")
    with comfyui.socket("x"):
        wait_until(lambda: _running(comfyui) == ["a"])
        comfyui.call("POST", "/interrupt")
        assert _running(comfyui) == ["a"]
    _finish(emulator, comfyui)
    event, data = comfyui.entry("a")["status"]["messages"][-1]
    assert event == "execution_interrupted"
    assert (data["node_id"], data["executed"]) == ("2", ["1"])


def test_an_interrupted_run_keeps_its_finished_nodes(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    assert isinstance(emulator.clock, ManualClock)
    with comfyui.socket("c") as socket:
        comfyui.submit(flux_mesh(), prompt_id="a", client_id="c")
        while socket.event("executing")["node"] != "3":
            emulator.clock.advance(10)
        comfyui.call("POST", "/interrupt", json={"prompt_id": "a"})
        assert _running(comfyui) == ["a"]
        emulator.clock.advance(10)
        assert socket.event("execution_interrupted")["node_id"] == "3"
        socket.run()
        comfyui.submit(flux_mesh(), client_id="c")
        assert len(socket.event("execution_cached")["nodes"]) == 12
    _finish(emulator, comfyui)


def test_the_interrupt_flag_is_cleared_at_the_start_of_a_run(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    comfyui.call("POST", "/interrupt")
    comfyui.submit(sleep(1), prompt_id="a")
    _finish(emulator, comfyui)
    assert comfyui.entry("a")["status"]["completed"]


@pytest.mark.parametrize("inputs", [None, [1]])
def test_an_unlinked_node_without_inputs_kills_the_worker(
    emulator: Emulator, comfyui: ComfyUIClient, inputs: Any
) -> None:
    dead = (
        {"class_type": "LabSleep"} if inputs is None else {"class_type": "LabSleep", "inputs": []}
    )
    with comfyui.socket("w") as socket:
        comfyui.submit({**sleep(), "9": dead}, prompt_id="a", client_id="w")
        socket.event("execution_start")
        comfyui.submit(sleep(1, "next"), prompt_id="b")
        assert {frame["type"] for frame in socket.rest()} == {"status"}
    queue = comfyui.get("/queue")
    assert [item[1] for item in queue["queue_running"]] == ["a"]
    assert [item[1] for item in queue["queue_pending"]] == ["b"]
    assert comfyui.get("/history") == {}


def test_a_list_as_extra_data_with_client_id_kills_the_worker(
    emulator: Emulator, comfyui: ComfyUIClient
) -> None:
    comfyui.submit(sleep(), prompt_id="a", extra_data=["client_id"])
    comfyui.submit(sleep(1, "next"), prompt_id="b")
    wait_until(lambda: _running(comfyui) == ["a"])
    assert comfyui.get("/history") == {}


def test_an_unlinked_cycle_is_ignored(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    cycle = {
        "8": {"class_type": "ImageInvert", "inputs": {"image": ["9", 0]}},
        "9": {"class_type": "ImageInvert", "inputs": {"image": ["8", 0]}},
    }
    comfyui.submit({**sleep(), **cycle}, prompt_id="a")
    _finish(emulator, comfyui)
    assert comfyui.entry("a")["status"]["completed"]


def test_a_repeated_id_runs_twice(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    comfyui.submit(sleep(1, "x"), prompt_id="a")
    comfyui.submit(sleep(1, "y"), prompt_id="a")
    _finish(emulator, comfyui)
    assert comfyui.entry("a")["prompt"][2]["1"]["inputs"]["tag"] == "y"
    assert [p["status"] for p in emulator.state()["prompts"]] == ["success", "success"]


def test_the_run_time_is_spread_over_the_nodes(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    assert isinstance(emulator.clock, ManualClock)
    comfyui.submit(flux_mesh(), prompt_id="a")
    wait_until(lambda: _running(comfyui))
    emulator.clock.advance(199)
    for _ in range(20):
        assert _running(comfyui) == ["a"]
    emulator.clock.advance(1.001)
    messages = comfyui.entry("a")["status"]["messages"]
    assert messages[-1][1]["timestamp"] - messages[0][1]["timestamp"] in range(200_000, 200_100)
