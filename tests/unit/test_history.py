"""The outcome of a run, from the history that real servers recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyloom._comfyui.history import FileReference, HistoryEntry
from comfyloom.errors import RunCancelled, RunFailed
from support import RECORDINGS


def recorded(place: str) -> HistoryEntry:
    raw = json.loads((RECORDINGS / place).read_text("utf-8"))
    body: dict[str, Any] = raw.get("body", raw)
    ((prompt_id, entry),) = body.items()
    parsed = HistoryEntry.parse(prompt_id, entry)
    assert parsed is not None
    return parsed


def test_a_success_lists_its_files() -> None:
    entry = recorded("http/history_id_success.json")
    assert entry.status == "success"
    assert entry.error() is None
    assert entry.files("24", "images")[0].filename.endswith(".png")
    assert entry.files("33", "3d")[0].subfolder == "partpacker_results"
    assert entry.files("33", "another key")[0].filename.endswith(".glb")
    assert entry.files("3") == ()


def test_a_cached_run_lists_its_old_files() -> None:
    entry = recorded("http/history_id_cached_success.json")
    assert entry.error() is None
    assert entry.files("24")


def test_a_node_that_raised_is_the_error() -> None:
    error = recorded("http/history_id_error.json").error()
    assert isinstance(error, RunFailed)
    assert error.node
    assert error.node_type
    assert error.exception_type
    assert error.traceback
    assert error.node in str(error)
    assert "\n" not in str(error)


def test_an_interrupted_run_is_cancelled_not_failed() -> None:
    assert isinstance(recorded("http/history_id_interrupted.json").error(), RunCancelled)


def test_an_execution_blocker_is_not_a_failure() -> None:
    assert recorded("ws/04c_history.json").error() is None


def test_a_null_status_of_newer_servers_is_not_a_failure() -> None:
    entry = HistoryEntry.parse("p", {"outputs": {}, "status": None})
    assert entry is not None
    assert entry.error() is None


def test_files_are_any_objects_with_a_file_name() -> None:
    ui = {
        "animated": [True],
        "text": ["hi", None, 3],
        "gifs": [{"filename": "a.mp4", "type": "temp"}, {"filename": ""}, {"filename": 3}],
        "images": [{"filename": "b.png", "subfolder": None, "type": "output"}],
    }
    entry = HistoryEntry.parse("p", {"outputs": {"1": ui}})
    assert entry is not None
    assert entry.files("1", "gifs") == (FileReference(filename="a.mp4", type="temp"),)
    assert entry.files("1", "none of these") == (
        FileReference(filename="b.png"),
        FileReference(filename="a.mp4", type="temp"),
    )
    assert entry.texts("1", "text") == ("hi", "3")
    assert entry.texts("1", "animated") == entry.texts("2", "text") == ()


def test_what_expanded_nodes_report_belongs_to_the_node_of_the_graph() -> None:
    image = {"images": [{"filename": "a.png"}]}
    outputs = {
        "9.0.0.2": image,
        "9.0.0.1": {"text": ["first", [["second", 2.5], True]]},
        "e7": {"text": "third"},
        "90.0.0.1": {"text": ["another node's"]},
    }
    meta = {"e7": {"node_id": "e7", "display_node": "9", "parent_node": "9", "real_node_id": "9"}}
    entry = HistoryEntry.parse("p", {"outputs": outputs, "meta": meta})
    assert entry is not None
    assert [file.filename for file in entry.files("9", "images")] == ["a.png"]
    assert entry.texts("9", "text") == ("first", "second", "2.5", "third")
    assert entry.files("8") == ()
    own = HistoryEntry.parse("p", {"outputs": {**outputs, "9": {"text": ["own"]}}})
    assert own is not None
    assert own.texts("9", "text") == ("own",)


def test_a_mesh_that_is_reported_as_a_path() -> None:
    ui = {"result": ["3d/x.glb", None], "text": ["no.file.txt"]}
    entry = HistoryEntry.parse("p", {"outputs": {"1": ui}})
    assert entry is not None
    assert entry.files("1", "3d", has_paths=True) == (
        FileReference(filename="x.glb", subfolder="3d"),
    )


@pytest.mark.parametrize("raw", [None, [], "x", 3])
def test_invalid_entries_are_ignored(raw: object) -> None:
    assert HistoryEntry.parse("p", raw) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {
            "outputs": JSON | st.dictionaries(st.text(), st.dictionaries(st.text(), JSON)),
            "status": JSON
            | st.fixed_dictionaries(
                {"status_str": JSON | st.just("error"), "messages": JSON | st.lists(st.lists(JSON))}
            ),
        }
    )
)
def test_no_json_breaks_the_outcome(raw: dict[str, Any]) -> None:
    entry = HistoryEntry.parse("p", raw)
    assert entry is not None
    entry.error()
    for node in entry.outputs:
        entry.files(node, "images")


@pytest.mark.parametrize("status", [None, {}, {"status_str": None, "messages": None}, "success", 7])
def test_an_entry_without_a_status_is_judged_by_its_outputs(status: object) -> None:
    """Integrators report servers whose entries have no status."""
    image = {"filename": "a.png", "subfolder": "", "type": "output", "asset": {"id": "x"}}
    raw = {"status": status, "outputs": {"24": {"images": [image, None], "animated": [False]}}}
    entry = HistoryEntry.parse("p", raw)
    assert entry is not None
    assert entry.error() is None
    assert [file.filename for file in entry.files("24", "images")] == ["a.png"]
