"""Turn the JSON of a workflow file into a graph that contains only nodes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from comfyloom._core.json import is_array, is_mapping, mapping
from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom_codegen.problems import ProblemLog

UI_FORMAT: Final = (
    "this is the format of ComfyUI's web UI; export the workflow again with Workflow → Export (API)"
)
_ENVELOPES: Final = (("prompt",), ("input", "workflow"), ("input", "prompt"), ("workflow",))
_NODE_ID: Final = re.compile(r"\d+(?:[:_.]\d+)*")


def graph_of(data: dict[str, Any], problems: ProblemLog) -> Graph:
    """Return the nodes in the JSON of a workflow file; errors are added to `problems`."""
    data = _unpacked(data)
    if is_array(data.get("nodes")):
        problems.error(UI_FORMAT)
        return {}
    graph = {key: value for key, value in data.items() if _is_node(key, value)}
    for key in data:
        if key not in graph:
            problems.warn(f"the key {key!r} is not a node and is left out")
    if not graph:
        problems.error("it contains no nodes")
    for node, entry in graph.items():
        _check_node(node, entry, problems)
    if not problems.has_errors:
        _check_numbers(graph, problems)
        _check_links(graph, problems)
    return graph


def _unpacked(data: dict[str, Any]) -> dict[str, Any]:
    """Return the graph inside a request body, or `data` if it is not such a body."""
    if any(map(_is_node_shaped, data.values())):
        return data
    for path in _ENVELOPES:
        inner: Any = data
        for key in path:
            inner = mapping(inner).get(key)
        found = mapping(inner)
        if is_array(found.get("nodes")) or any(map(_is_node_shaped, found.values())):
            return dict(found)
    return data


def _is_node_shaped(value: object) -> bool:
    return is_mapping(value) and ("class_type" in value or "inputs" in value)


def _is_node(key: str, value: object) -> bool:
    return _is_node_shaped(value) or _NODE_ID.fullmatch(key) is not None


def _check_node(node: str, entry: object, problems: ProblemLog) -> None:
    if not is_mapping(entry):
        problems.error("expected an object", node=node)
        return
    class_type = entry.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        problems.error("class_type is not a string", node=node)
    if not is_mapping(entry.get("inputs")):
        problems.error("inputs is not an object", node=node)


def _check_numbers(graph: Graph, problems: ProblemLog) -> None:
    """Refuse NaN and infinite numbers in inputs; elsewhere ComfyUI ignores them: use null."""
    try:
        json.dumps(graph, allow_nan=False)
    except ValueError:
        pass
    else:
        return
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if not _is_finite(value):
                problems.error(f"input {name!r} holds NaN or an infinite number", node=node)
        for key, value in entry.items():
            if key != "inputs" and not _is_finite(value):
                problems.warn(f"NaN under {key!r} becomes null", node=node)
                entry[key] = _without_nan(value)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return all(map(_is_finite, _children(value)))


def _children(value: object) -> Iterator[object]:
    if is_mapping(value):
        yield from value.values()
    elif is_array(value):
        yield from value


def _without_nan(value: Any) -> Any:
    if is_mapping(value):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if is_array(value):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_links(graph: Graph, problems: ProblemLog) -> None:
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if is_link_shaped(value) and value[0] not in graph:
                reason = f"input {name!r} links to node {value[0]!r}, which does not exist"
                problems.warn(f"{reason}; the workflow cannot run", node=node)


def is_public_literal(value: object) -> bool:
    """Return whether an input holds a value; ComfyUI treats every bare list as a link."""
    return not is_array(value)


def unwrapped(value: object) -> object:
    """Return the list inside `{"__value__": […]}`; other values unchanged."""
    inner = value.get("__value__") if is_mapping(value) and len(value) == 1 else None
    return inner if is_array(inner) else value
