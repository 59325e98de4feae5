"""Every frame that a real server sent is understood, and no bytes break the parser."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyloom._comfyui.events import parse_frame
from support import RECORDINGS

STREAMS = sorted((RECORDINGS / "ws").glob("*.jsonl"))
# Event types that this client acts on; a server may send more.
KNOWN = {
    "status",
    "feature_flags",
    "execution_start",
    "execution_cached",
    "executing",
    "executed",
    "progress",
    "progress_state",
    "execution_success",
    "execution_error",
    "execution_interrupted",
}


def frames(stream: Path) -> list[Any]:
    lines = [json.loads(line) for line in stream.read_text("utf-8").splitlines()]
    return [line["frame"] for line in lines if "frame" in line]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda path: path.stem)
def test_every_recorded_text_frame_is_an_event(stream: Path) -> None:
    for frame in frames(stream):
        if not isinstance(frame, dict) or frame.get("_binary"):
            continue
        event = parse_frame(json.dumps(frame))
        assert event is not None
        assert event.type in KNOWN
        assert event.prompt_id == frame["data"].get("prompt_id")


def test_a_whole_run_ends_with_executing_null() -> None:
    events = [
        event
        for frame in frames(RECORDINGS / "ws" / "01_fresh_run_legacy_preview.jsonl")
        if not frame.get("_binary") and (event := parse_frame(json.dumps(frame)))
    ]
    ours = [event for event in events if event.prompt_id]
    assert (ours[-1].type, ours[-1].node) == ("executing", None)
    assert {event.node for event in ours if event.type == "executed"} == {"24", "33"}


def test_an_expanded_node_is_reported_as_its_node_in_the_graph() -> None:
    events = [
        event
        for frame in frames(RECORDINGS / "ws" / "10b_expanding_node.jsonl")
        if (event := parse_frame(json.dumps(frame)))
    ]
    nodes = {event.node for event in events if event.type == "executing" and event.node}
    assert all("." not in node for node in nodes)


def test_recorded_binary_frames_are_events() -> None:
    preview = parse_frame((RECORDINGS / "ws" / "03c_frame_event1.bin").read_bytes())
    assert preview is not None
    assert preview.type == "preview"
    assert preview.blob is not None
    assert preview.blob.startswith(b"\x89PNG")
    said = parse_frame((RECORDINGS / "ws" / "03c_frame_event3.bin").read_bytes())
    assert said is not None
    assert said.type == "text"
    assert said.data["text"]


def test_a_preview_with_metadata_names_its_run_and_node() -> None:
    meta = json.dumps({"node_id": "3", "prompt_id": "p", "display_node_id": "3"}).encode()
    frame = struct.pack(">II", 4, len(meta)) + meta + b"\xff\xd8picture"
    event = parse_frame(frame)
    assert event is not None
    assert (event.type, event.prompt_id, event.node) == ("preview", "p", "3")
    assert event.blob == b"\xff\xd8picture"


@pytest.mark.parametrize(
    "frame",
    ["", "{", "[]", "null", '{"type": 3}', b"", b"1234567", struct.pack(">II", 99, 0), "[" * 9999],
)
def test_invalid_frames_are_ignored(frame: str | bytes) -> None:
    assert parse_frame(frame) is None


@given(
    st.binary(max_size=64)
    | st.builds(lambda n, b: struct.pack(">I", n) + b, st.integers(0, 5), st.binary())
)
def test_no_bytes_break_the_parser(frame: bytes) -> None:
    parse_frame(frame)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["type", "data", "node"]), inner)
        ),
        max_leaves=12,
    )
)
def test_no_json_breaks_the_parser(value: Any) -> None:
    parse_frame(json.dumps(value))
    parse_frame(json.dumps({"type": "executing", "data": value}))
