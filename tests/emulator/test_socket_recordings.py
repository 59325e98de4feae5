"""Event streams, compared with recordings of a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyloom.emulator import Emulator, ManualClock
from emulator.clients import ComfyUIClient, Start, frame_kind, wait_until
from emulator.lab import cases, flux_mesh, sleep
from support import RECORDINGS


def _recorded(name: str) -> list[Any]:
    lines = (RECORDINGS / "ws" / name).read_text("utf-8").splitlines()
    frames = [json.loads(line).get("frame") for line in lines]
    return [frame for frame in frames if frame is not None]


def _recorded_kind(frame: Any) -> str:
    return f"binary{frame['event']}" if frame.get("_binary") else frame["type"]


def _shape(frame: Any) -> Any:
    """Return the parts of a frame to compare: its type, keys, node and state."""
    if isinstance(frame, bytes) or frame.get("_binary"):
        return frame_kind(frame) if isinstance(frame, bytes) else _recorded_kind(frame)
    data = frame["data"]
    shape: list[Any] = [frame["type"], sorted(data)]
    if frame["type"] == "progress_state":
        shape.append({n: (s["value"], s["max"], s["state"]) for n, s in data["nodes"].items()})
        shape.append(sorted(next(iter(data["nodes"].values()))))
    elif frame["type"] == "status":
        shape.append(data["status"])
    elif frame["type"] == "execution_cached":
        shape.append(sorted(data["nodes"]))
    else:
        shape += [data.get("node"), data.get("value"), data.get("max"), data.get("output")]
    return shape


def _full_graph() -> Any:
    graph = flux_mesh()
    # The recorded server ran SaveGLB's branch first.
    order = [*graph]
    order.remove("33")
    return {node: graph[node] for node in ["33", *order]}


def test_fresh_and_cached_runs_send_the_recorded_events(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("cid-01") as socket:
        comfyui.submit(_full_graph(), client_id="cid-01")
        fresh = socket.run()
        comfyui.submit(_full_graph(), client_id="cid-01")
        again = socket.run()
    wanted = _recorded("01_fresh_run_legacy_preview.jsonl")
    assert [_shape(frame) for frame in fresh] == [_shape(frame) for frame in wanted]
    wanted = _recorded("02_fully_cached_run.jsonl")[1:]
    assert [_shape(frame) for frame in again] == [_shape(frame) for frame in wanted]


def test_the_history_entry_has_the_recorded_shape(comfyui: ComfyUIClient) -> None:
    entry = comfyui.run(_full_graph(), client_id="cid-01")
    wanted = json.loads((RECORDINGS / "ws" / "01_history.json").read_text("utf-8"))
    (wanted,) = wanted.values()
    assert sorted(entry) == sorted(wanted)
    assert entry["outputs"] == wanted["outputs"]
    assert entry["meta"] == wanted["meta"]
    assert entry["prompt"][3:] == [{"client_id": "cid-01"}, ["33", "24"]]
    messages = [(event, sorted(data)) for event, data in entry["status"]["messages"]]
    assert messages == [(event, sorted(data)) for event, data in wanted["status"]["messages"]]
    assert isinstance(entry["prompt"][2]["19"]["inputs"]["guidance"], float)


def test_a_partly_cached_run_and_a_run_with_renamed_nodes(comfyui: ComfyUIClient) -> None:
    comfyui.run(_full_graph())
    changed = _full_graph()
    changed["3"]["inputs"]["noise_seed"] = 99
    with comfyui.socket("cid-02") as socket:
        comfyui.submit(changed, client_id="cid-02")
        frames = socket.run()
        wanted = _recorded("02c_partially_cached_run.jsonl")
        cached = [sorted(f["data"]["nodes"]) for f in _texts(frames, "execution_cached")]
        assert cached == [sorted(f["data"]["nodes"]) for f in _texts(wanted, "execution_cached")]
        # The recording misses every second preview, so compare only the text frames.
        assert _text_kinds(frames) == _text_kinds(wanted)
        renamed = json.loads(json.dumps(changed))
        renamed = {f"n{node}": _rename(entry) for node, entry in renamed.items()}
        prompt_id = comfyui.submit(renamed, client_id="cid-02")
        frames = socket.run()
    assert sorted(_texts(frames, "execution_cached")[0]["data"]["nodes"]) == sorted(renamed)
    entry = comfyui.entry(prompt_id)
    assert entry["outputs"]["n24"]["images"][0]["filename"] == "flux_00002_.png"
    assert entry["meta"]["n24"]["node_id"] == "24"


def _rename(entry: Any) -> Any:
    inputs = {
        name: [f"n{value[0]}", value[1]] if isinstance(value, list) else value
        for name, value in entry["inputs"].items()
    }
    return {**entry, "inputs": inputs}


def _texts(frames: list[Any], kind: str) -> list[Any]:
    return [frame for frame in frames if isinstance(frame, dict) and frame.get("type") == kind]


def _text_kinds(frames: list[Any]) -> list[str]:
    return [f["type"] for f in frames if isinstance(f, dict) and not f.get("_binary")]


def test_previews_have_the_recorded_metadata(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("cid-03", features=True) as socket:
        status = socket.next()
        assert (status["type"], status["data"]["sid"]) == ("status", "cid-03")
        answer = socket.next()
        wanted = _recorded("03_fresh_run_metadata_preview.jsonl")
        assert answer == wanted[1]
        comfyui.submit(flux_mesh(), client_id="cid-03")
        frames = socket.run()
    kinds = [frame_kind(frame) for frame in frames]
    first = kinds.index("binary4")
    assert kinds[first - 1 : first + 2] == ["progress_state", "binary4", "progress"]
    assert kinds.count("binary4") == 20
    frame = frames[first]
    size = int.from_bytes(frame[4:8], "big")
    metadata = json.loads(frame[8 : 8 + size])
    recorded = next(f for f in wanted if f.get("_binary"))["metadata"]
    assert sorted(metadata) == sorted(recorded)
    assert (metadata["node_id"], metadata["image_type"]) == ("3", "image/jpeg")
    assert frame[8 + size :].startswith(b"\xff\xd8\xff")


def test_feature_flags_count_only_in_the_first_frame(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("late") as socket:
        socket.send("hello", {})
        socket.send("feature_flags", {"supports_preview_metadata": True})
        comfyui.submit(flux_mesh(), client_id="late")
        kinds = {frame_kind(frame) for frame in socket.run()}
    assert "binary1" in kinds
    assert not kinds & {"binary4", "feature_flags"}


def test_previews_can_be_disabled(start: Start) -> None:
    comfyui = ComfyUIClient(start(previews=False).comfyui_url)
    with comfyui.socket("quiet") as socket:
        comfyui.submit(flux_mesh(), client_id="quiet")
        frames = socket.run()
    kinds = [frame_kind(frame) for frame in frames]
    assert (kinds.count("progress"), kinds.count("binary1")) == (71, 0)
    comfyui.http.close()


def test_a_failed_run_sends_the_recorded_events(comfyui: ComfyUIClient) -> None:
    graph = {
        "1": {"class_type": "LabRaise", "inputs": {"message": "boom"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with comfyui.socket("cid-04") as socket:
        comfyui.submit(graph, client_id="cid-04")
        frames = socket.run()
    wanted = _recorded("04_execution_error.jsonl")
    assert [frame["type"] for frame in frames] == [frame["type"] for frame in wanted]
    error = _texts(frames, "execution_error")[0]["data"]
    recorded = _texts(wanted, "execution_error")[0]["data"]
    assert sorted(error) == sorted(recorded)
    for key in ("exception_message", "exception_type", "node_type", "executed", "current_inputs"):
        assert error[key] == recorded[key]
    assert error["current_outputs"] == ["1", "2"]


def test_a_cached_output_node_without_ui_data_reports_null(comfyui: ComfyUIClient) -> None:
    graph = {
        "1": sleep()["1"],
        "2": {"class_type": "LabQuiet", "inputs": {"image": ["1", 0]}},
    }
    comfyui.run(graph)
    with comfyui.socket("cid-10c") as socket:
        prompt_id = comfyui.submit(graph, client_id="cid-10c")
        frames = socket.run()
    kinds = [frame_kind(f) for f in frames]
    assert kinds == [f["type"] for f in _recorded("10d_cached_output_without_ui.jsonl")]
    assert _texts(frames, "executed")[0]["data"]["output"] is None
    assert comfyui.entry(prompt_id)["outputs"] == {}


def test_a_run_without_client_id_is_seen_by_all_clients(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("obs-09", features=True) as observer:
        comfyui.run(_full_graph())
        frames = observer.rest()
    frames = [frame for frame in frames if frame_kind(frame) != "feature_flags"]
    wanted = _recorded("09_no_client_id_in_post.jsonl")
    assert [_shape(f) for f in frames] == [_shape(f) for f in wanted]


def test_other_clients_see_only_the_queue(comfyui: ComfyUIClient) -> None:
    with comfyui.socket("obs-08") as other, comfyui.socket("") as nameless:
        comfyui.run(sleep(40, progress=True), client_id="cid-08")
        comfyui.run(cases()["success"]["request"]["prompt"], client_id="cid-08")
        seen, first = other.rest(), nameless.next()
        assert len(first["data"]["sid"]) == 32
    assert {frame["type"] for frame in seen} == {"status"}


@pytest.fixture
def manual_emulator(start: Start) -> Emulator:
    return start(time="manual")


def _advance(emulator: Emulator, seconds: float) -> None:
    assert isinstance(emulator.clock, ManualClock)
    emulator.clock.advance(seconds)


def test_a_client_can_reconnect_during_a_run(manual_emulator: Emulator) -> None:
    comfyui = ComfyUIClient(manual_emulator.comfyui_url)
    with comfyui.socket("cid-07") as socket:
        comfyui.submit(sleep(100, progress=True), client_id="cid-07")
        socket.event("executing")
        _advance(manual_emulator, 0.02)
        assert socket.event("progress")["value"] == 1
    with comfyui.socket("cid-07") as socket:
        frames = [socket.next(), socket.next()]
        assert frames[0]["data"]["status"]["exec_info"]["queue_remaining"] == 1
        assert frames[1] == {"type": "executing", "data": {"node": "1"}}
        _advance(manual_emulator, 60)
        kinds = [frame_kind(frame) for frame in socket.run()]
        assert kinds[-1] == "executing"
    with comfyui.socket("cid-07") as socket:
        assert [frame_kind(frame) for frame in socket.rest()] == ["status"]
    comfyui.http.close()


def test_closing_a_taken_over_connection_silences_the_newer_one(manual_emulator: Emulator) -> None:
    comfyui = ComfyUIClient(manual_emulator.comfyui_url)
    with comfyui.socket("cid-07b") as first:
        comfyui.submit(sleep(200, progress=True), client_id="cid-07b")
        first.event("executing")
        with comfyui.socket("cid-07b") as second:
            assert first.rest() == []
            _advance(manual_emulator, 0.02)
            assert second.event("progress")["value"] == 1
            assert first.rest() == []
            first.close()
            wait_until(lambda: _advance(manual_emulator, 0.02) or second.rest() == [])
            _advance(manual_emulator, 60)
            assert second.rest() == []
    comfyui.http.close()


def test_queue_edits_send_status_events(manual_emulator: Emulator) -> None:
    comfyui = ComfyUIClient(manual_emulator.comfyui_url)
    with comfyui.socket("cid-06b") as socket:
        comfyui.submit(sleep(100), client_id="cid-06b")
        socket.event("executing")
        for tag in "abc":
            comfyui.submit(sleep(1, tag), client_id="cid-06b")
        comfyui.call("POST", "/queue", json={"clear": True})
        counts = [socket.event("status") for _ in range(4)]
        assert [c["status"]["exec_info"]["queue_remaining"] for c in counts] == [2, 3, 4, 1]
        _advance(manual_emulator, 60)
        socket.run()
    statuses = [prompt["status"] for prompt in manual_emulator.state()["prompts"]]
    assert statuses == ["success", "deleted", "deleted", "deleted"]
    comfyui.http.close()
