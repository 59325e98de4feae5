"""Execution: file names, cache, order, timing and isolation."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyloom.emulator import Emulator, HttpFault, ManualClock, Node, NodeCall, NodeResult
from emulator.clients import TIMEOUT_S, ComfyUIClient, Start, frame_kind, wait_until
from emulator.lab import NODES, OBJECT_INFO, flux_mesh, sleep
from support import RECORDINGS


def _batch(_call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Picture

    return NodeResult(outputs=(Picture(np.zeros((4, 64, 64, 3), np.float32)),))


def _saving(prefix: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["0", 0]}},
        "0": {"class_type": "LabRaise", "inputs": {"message": ""}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("SaveImage_batch4", "sub/dir/batch"), ("SaveImage_batch_num", "b_%batch_num%_%width%")],
)
def test_files_of_a_batch_are_named_as_recorded(start: Start, name: str, prefix: str) -> None:
    nodes = {**NODES, "ImageInvert": Node(run=_batch), "LabRaise": Node(run=_batch)}
    comfyui = ComfyUIClient(start(nodes=nodes).comfyui_url)
    recorded = json.loads((RECORDINGS / "extra" / "ui_output_kinds.json").read_text("utf-8"))
    assert comfyui.run(_saving(prefix))["outputs"] == recorded[name]["outputs"]
    comfyui.http.close()


def test_a_prefix_cannot_leave_the_folder(comfyui: ComfyUIClient) -> None:
    graph = {**sleep(), "3": _saving("../x")["2"]}
    status = comfyui.run(graph)["status"]
    assert status["messages"][-1][0] == "execution_error"


def test_an_input_image_cannot_come_from_another_folder(comfyui: ComfyUIClient) -> None:
    response = comfyui.post(flux_mesh(image="../../../etc/passwd"))
    (error,) = response.json()["node_errors"]["16"]["errors"]
    assert error["type"] == "custom_validation_failed"


def test_an_input_file_is_read_when_its_node_runs(start: Start) -> None:
    emulator = start(time="manual")
    comfyui = ComfyUIClient(emulator.comfyui_url)
    comfyui.upload("i.png", _png("red"))
    comfyui.submit(sleep(1000), prompt_id="first")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "i.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "o"}},
    }
    comfyui.submit(graph, prompt_id="second")
    comfyui.upload("i.png", _png("blue"), overwrite="1")
    assert isinstance(emulator.clock, ManualClock)
    wait_until(lambda: emulator.clock.advance(100) or comfyui.get("/history/second"))  # type: ignore[attr-defined]
    reference = comfyui.entry("second")["outputs"]["2"]["images"][0]
    picture = Image.open(io.BytesIO(comfyui.view(reference)))
    assert picture.getpixel((0, 0)) == (0, 0, 255)
    comfyui.http.close()


def _png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, format="PNG")
    return out.getvalue()


def test_the_cache_keeps_only_the_last_prompt(comfyui: ComfyUIClient) -> None:
    def cached(graph: Any) -> int:
        messages = comfyui.run(graph)["status"]["messages"]
        return len(messages[1][1]["nodes"])

    other = flux_mesh()
    other["3"]["inputs"]["noise_seed"] = 5
    graphs = [flux_mesh(), flux_mesh(), other, flux_mesh(), sleep(), flux_mesh()]
    recorded = json.loads(
        (RECORDINGS / "extra" / "classic_cache_keeps_only_last_prompt.json").read_text("utf-8")
    )
    (counts,) = recorded.values()
    assert [cached(graph) for graph in graphs] == [*counts.values()]


def test_a_failed_run_lists_cached_outputs(comfyui: ComfyUIClient) -> None:
    good = sleep()
    comfyui.run(good)
    graph = {
        **good,
        "0": {"class_type": "LabRaise", "inputs": {"message": "late"}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["0", 0]}},
    }
    with comfyui.socket("c") as socket:
        prompt_id = comfyui.submit(graph, client_id="c")
        frames = [f for f in socket.run() if f["type"].startswith("exec")]
    recorded = json.loads(
        (RECORDINGS / "extra" / "error_run_lists_cached_outputs.json").read_text("utf-8")
    )
    events = [[f["type"], f["data"].get("node")] for f in frames if f["type"] != "execution_start"]
    assert events == recorded["events"]
    assert [*comfyui.entry(prompt_id)["outputs"]] == [*recorded["history_outputs"]]


def test_v3_combo_values_are_not_validated(comfyui: ComfyUIClient) -> None:
    graph = {
        "1": {"class_type": "LabCombo", "inputs": {"dim": "nosuch"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert comfyui.post(graph).json()["node_errors"] == {}


def test_the_history_entry_follows_the_success_event(start: Start) -> None:
    comfyui = ComfyUIClient(start(history_delay_s=0.1).comfyui_url)
    with comfyui.socket("c") as socket:
        prompt_id = comfyui.submit(sleep(), client_id="c")
        socket.event("execution_success")
        assert comfyui.get(f"/history/{prompt_id}") == {}
        assert [item[1] for item in comfyui.get("/queue")["queue_running"]] == [prompt_id]
        assert socket.event("executing") == {"node": None, "prompt_id": prompt_id}
        assert prompt_id in comfyui.get(f"/history/{prompt_id}")
    comfyui.http.close()


def test_events_can_overtake_the_answer_to_post_prompt(start: Start) -> None:
    emulator = start(time="manual", run_s=0)
    comfyui = ComfyUIClient(emulator.comfyui_url)
    emulator.faults.add(HttpFault(action="answer_late", path="/prompt$", seconds=10))
    with comfyui.socket("c") as socket, ThreadPoolExecutor() as pool:
        posted = pool.submit(comfyui.submit, sleep(0), client_id="c", prompt_id="p")
        assert socket.run()[-1]["data"]["prompt_id"] == "p"
        assert not posted.done()
        assert isinstance(emulator.clock, ManualClock)
        emulator.clock.advance(10)
        assert posted.result(TIMEOUT_S) == "p"
    comfyui.http.close()


def test_a_run_in_real_time_takes_run_s(start: Start) -> None:
    took_ms: list[int] = []
    for _ in range(3):
        comfyui = ComfyUIClient(start(time="real", run_s=0.8).comfyui_url)
        messages = comfyui.run(flux_mesh())["status"]["messages"]
        took_ms.append(messages[-1][1]["timestamp"] - messages[0][1]["timestamp"])
        comfyui.http.close()
        if took_ms[-1] < 1600:
            break
    assert 790 <= min(took_ms) < 1600  # a slow computer may delay one of them


def test_the_server_answers_while_a_node_runs(start: Start) -> None:
    working, go_on = threading.Event(), threading.Event()

    def work(_call: NodeCall) -> NodeResult:
        working.set()
        go_on.wait(TIMEOUT_S)
        return _batch(_call)

    comfyui = ComfyUIClient(start(nodes={**NODES, "LabRaise": Node(run=work)}).comfyui_url)
    prompt_id = comfyui.submit(_saving("x"))
    working.wait(TIMEOUT_S)
    assert [item[1] for item in comfyui.get("/queue")["queue_running"]] == [prompt_id]
    go_on.set()
    assert comfyui.entry(prompt_id)["status"]["completed"]
    comfyui.http.close()


def test_monitor_events_are_sent_between_the_others(start: Start) -> None:
    comfyui = ComfyUIClient(start(monitor_events=True).comfyui_url)
    with comfyui.socket("c") as socket:
        comfyui.submit(sleep(), client_id="c")
        assert "crystools.monitor" in {frame_kind(frame) for frame in socket.run()}
    comfyui.http.close()


def test_two_clients_get_only_their_own_runs_in_order(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("a") as first, comfyui.socket("b") as second:
        sockets = {"a": first, "b": second}
        ids: dict[str, list[str]] = {"a": [], "b": []}
        for number in range(20):
            for client in sockets:
                graph = sleep(1, f"{client}{number}")
                ids[client].append(comfyui.submit(graph, client_id=client))
        for client, socket in sockets.items():
            ended = [socket.run()[-1]["data"]["prompt_id"] for _ in ids[client]]
            assert ended == ids[client]


def test_each_machine_has_its_own_server(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    from emulator.clients import AccountClient

    account = AccountClient(emulator)
    urls = []
    for _ in range(2):
        server_id = account.launch()
        account.get(server_id)
        urls.append(account.get(server_id)["main_service_url"])
    first, second = (ComfyUIClient(url) for url in urls)
    prompt_id = first.submit(sleep())
    first.entry(prompt_id)
    first.upload("mine.png", b"x")
    assert second.get("/history") == comfyui.get("/history") == {}
    missing = second.call("GET", "/view?filename=mine.png&type=input")
    assert missing.status_code == 404
    for client in (first, second):
        client.http.close()
    account.http.close()


def test_the_callers_schemas_override_the_packaged_ones(start: Start) -> None:
    schema = {
        "input": {"required": {"vae_name": [["mine.safetensors"]]}},
        "output": ["VAE"],
        "output_node": False,
    }
    comfyui = ComfyUIClient(start(object_info={**OBJECT_INFO, "VAELoader": schema}).comfyui_url)
    (shown,) = comfyui.get("/object_info/VAELoader").values()
    assert shown["input"]["required"]["vae_name"] == [["mine.safetensors"]]
    response = comfyui.post(flux_mesh())
    assert response.status_code == 400
    comfyui.http.close()
