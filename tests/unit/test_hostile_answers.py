"""What a server sends is data: no frame, history entry or queue may raise, whatever it holds."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyloom._comfyui import client, downloads
from comfyloom._comfyui.answers import rejection
from comfyloom._comfyui.event_router import EventRouter
from comfyloom._comfyui.events import ServerEvent, parse_frame
from comfyloom._comfyui.history import HistoryEntry
from comfyloom._session.eta import EtaEstimator, Timings
from comfyloom._session.progress_reporter import ProgressReporter
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.errors import OutputMissing, RunError
from comfyloom_workflows import FluxMeshWorkflow

NODES = ["3", "16", "24", "33", "1.0.0.2", "", "no such"]
KEYS = [
    *("type", "data", "prompt_id", "node", "nodes", "display_node", "value", "max", "output"),
    *("status", "status_str", "completed", "messages", "outputs", "meta", "state", "text"),
    *("images", "3d", "filename", "subfolder", "exec_info", "queue_remaining", "node_errors"),
    *("exception_type", "exception_message", "traceback", "node_id", "node_type", "errors"),
]
TYPES = [
    *("status", "execution_start", "execution_cached", "executing", "executed", "progress"),
    *("progress_state", "execution_success", "execution_error", "execution_interrupted"),
    *("feature_flags", "preview", "text", "crystools.monitor"),
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*NODES, *TYPES, "p", "success", "error", "a.png", "../../x.glb", "output"])
    | st.sampled_from(["\ud800.png", "x/\udfff.glb", 10**400, -(10**400)])
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*KEYS, *NODES]) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=25,
)
objects = st.dictionaries(st.sampled_from([*KEYS, *NODES]), values, max_size=8)
events = st.builds(
    lambda kind, data: json.dumps({"type": kind, "data": data}), st.sampled_from(TYPES), objects
)
frames = (
    events
    | values.map(json.dumps)
    | st.text()
    | st.binary()
    | st.builds(
        lambda kind, length, rest: struct.pack(">II", kind, length) + rest,
        st.integers(0, 6),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=60),
    )
)
SPECS = (
    OutputSpec(kind="image", node="24", key="images", file="flux.png", name="image"),
    OutputSpec(kind="mesh", node="33", key="3d", name="mesh", many=True),
    OutputSpec(kind="text", node="3", key="text", name="said", required=False),
    OutputSpec(kind="json", node="16", name="raw"),
)
GRAPH = FluxMeshWorkflow.template_graph()


@settings(max_examples=400, deadline=None)
@given(st.lists(frames, max_size=12))
def test_frames_are_events_or_nothing(given_frames: list[str | bytes]) -> None:
    reports: list[Any] = []
    watch = EtaEstimator(Timings.of("it", "nowhere"))

    def report(kind: str, message: str, **facts: Any) -> None:
        reports.append((kind, message))
        assert 0.0 <= facts["fraction"] <= 1.0
        assert watch.note(facts["fraction"], len(reports)) is None

    reporter = ProgressReporter(GRAPH, FluxMeshWorkflow.with_prompt("x"), report)
    router = EventRouter(str)
    router._listeners = {"p": lambda event: reporter.on_event(event) if event else None}  # type: ignore[dict-item, arg-type, return-value]
    for frame in given_frames:
        event = parse_frame(frame)
        if event is None:
            continue
        assert event.prompt_id is None or isinstance(event.prompt_id, str)
        assert event.node is None or isinstance(event.node, str)
        router._deliver(event)
        reporter.on_event(event)
    assert all(isinstance(text, str) for _, text in reports)


@settings(max_examples=400, deadline=None)
@given(values | objects)
def test_history_is_an_entry_or_nothing(raw: Any) -> None:
    entry = HistoryEntry.parse("p", json.loads(json.dumps(raw)))
    if entry is None:
        return
    error = entry.error()
    assert error is None or isinstance(error, RunError)
    for key in ("", "images", "3d", "text"):
        for node in NODES:
            entry.texts(node, key)
            for file in entry.files(node, key, has_paths=True):
                assert all(isinstance(each, str) for each in (file.filename, file.subfolder))
    try:
        downloads.values_of(entry, SPECS)
        wanted = downloads.plan(entry, SPECS)
    except OutputMissing:
        return
    for item in wanted:
        # Whatever name the server gives: one file name, inside the folder.
        assert item.name not in ("", ".", "..")
        assert item.name.encode()
        assert not set(item.name) & set('/\\:*?"<>|\0\n')
    assert len({item.name.casefold() for item in wanted}) == len(wanted)


@settings(max_examples=300, deadline=None)
@given(values)
def test_the_readable_part_of_a_queue_is_read(raw: Any) -> None:
    assert all(isinstance(each, str) for each in client._ids(json.loads(json.dumps(raw))))


@settings(max_examples=300, deadline=None)
@given(values | objects)
def test_rejections_are_explained(raw: Any) -> None:
    body = {"error": raw, "node_errors": {"3": raw, "24": {"errors": raw}}}
    answer = requests.Response()
    answer.status_code, answer.raw = 400, io.BytesIO(json.dumps(body).encode())
    assert "node 24" in str(rejection(answer))


def test_invalid_numbers_and_names_are_ignored() -> None:
    router = EventRouter(str)
    router.max_upload_bytes = 7
    for limit in ("NaN", "Infinity", "1" + "0" * 400, '"x"'):
        frame = f'{{"type": "feature_flags", "data": {{"max_upload_size": {limit}}}}}'
        event = parse_frame(frame)
        assert event is not None
        router._deliver(event)
        assert router.max_upload_bytes is None
    names = [{"filename": name} for name in ("\ud800.png", "", "ok.png")]
    raw = {"outputs": {"24": {"images": names, "3d": ["x/\udfff.glb"]}}}
    entry = HistoryEntry.parse("p", raw)
    assert entry is not None
    assert [file.filename for file in entry.files("24", "images")] == ["ok.png"]
    assert entry.files("24", "3d", has_paths=True)[0].filename == "ok.png"


def test_truncated_and_deeply_nested_frames_are_ignored() -> None:
    assert parse_frame('{"type": "executing", "data": ' + "[" * 100_000) is None
    assert parse_frame("[" * 100_000) is None
    assert isinstance(parse_frame('{"type": "x", "data": {"prompt_id": NaN}}'), ServerEvent)
