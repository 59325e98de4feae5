"""From the JSON of a workflow file to a graph that holds nodes and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from comfyloom._core.json import is_array, is_mapping, mapping
from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom_codegen.problems import Findings

UI_FORMAT: Final = (
    "this is the format that ComfyUI saves for itself; export the workflow again "
    "with Workflow → Export (API)"
)
_ENVELOPES: Final = (("prompt",), ("input", "workflow"), ("input", "prompt"), ("workflow",))
_LIKE_AN_ID: Final = re.compile(r"\d+(?:[:_.]\d+)*")


def graph_of(data: dict[str, Any], findings: Findings) -> Graph:
    """Return the nodes in the JSON of a workflow file; what is wrong goes to `findings`."""
    data = _unpacked(data)
    if is_array(data.get("nodes")):
        findings.error(UI_FORMAT)
        return {}
    graph = {key: value for key, value in data.items() if _is_meant_as_node(key, value)}
    for key in data:
        if key not in graph:
            findings.warn(f"the key {key!r} is no node and is left out")
    if not graph:
        findings.error("there is no node in it")
    for node, entry in graph.items():
        _check_node(node, entry, findings)
    if not findings.failed:
        _check_numbers(graph, findings)
        _check_links(graph, findings)
    return graph


def _unpacked(data: dict[str, Any]) -> dict[str, Any]:
    """Return the graph inside the body of a request, or `data` if it is no such body."""
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


def _is_meant_as_node(key: str, value: object) -> bool:
    return _is_node_shaped(value) or _LIKE_AN_ID.fullmatch(key) is not None


def _check_node(node: str, entry: object, findings: Findings) -> None:
    if not is_mapping(entry):
        findings.error("an object is expected", node=node)
        return
    class_type = entry.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        findings.error("class_type is no text", node=node)
    if not is_mapping(entry.get("inputs")):
        findings.error("inputs is no object", node=node)


def _check_numbers(graph: Graph, findings: Findings) -> None:
    """Refuse what JSON has no number for in inputs; elsewhere, where nobody reads it, drop it."""
    try:
        json.dumps(graph, allow_nan=False)
    except ValueError:
        pass
    else:
        return
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if not _is_finite(value):
                findings.error(f"input {name!r} holds NaN or an infinite number", node=node)
        for key, value in entry.items():
            if key != "inputs" and not _is_finite(value):
                findings.warn(f"NaN under {key!r} becomes null", node=node)
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


def _check_links(graph: Graph, findings: Findings) -> None:
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if is_link_shaped(value) and value[0] not in graph:
                reason = f"input {name!r} links to node {value[0]!r}, which is not there"
                findings.warn(f"{reason}; the workflow cannot run", node=node)


def is_public_literal(value: object) -> bool:
    """Return whether an input holds a value; ComfyUI takes every bare list for a link."""
    return not is_array(value)


def unwrapped(value: object) -> object:
    """Return the list that `{"__value__": […]}` stands for; other values as they are."""
    inner = value.get("__value__") if is_mapping(value) and len(value) == 1 else None
    return inner if is_array(inner) else value
