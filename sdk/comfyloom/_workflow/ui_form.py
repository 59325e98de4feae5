"""A graph in the form that ComfyUI's page saves, so that saved files open in the page again.

Some nodes read it (`extra_pnginfo.workflow`), and fail without it. Which values a node has, and in
which order, only its schema tells; without one, the order of the graph is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from comfyloom._core.json import mapping
from comfyloom._workflow.graph import Graph, is_link_shaped, links_of, title
from comfyloom._workflow.node_schemas import InputSchema, NodeSchema, Schemas

VERSION: Final = 0.4
_WIDGETS: Final = frozenset({"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"})
# The page adds a second value to a seed: what to do with it after a run.
_SEEDS: Final = frozenset({"seed", "noise_seed"})
_KEEP_SEED: Final = "fixed"
_COLUMN, _ROW = 400, 260
_SIZE: Final = (320, 200)
_MOST_OUTPUTS: Final = 1000


def ui_form(graph: Graph, schemas: Schemas, *, with_values: bool = True) -> dict[str, Any]:
    """Return a graph as a workflow of ComfyUI's page, version 0.4.

    Args:
        graph: The graph, in API format.
        schemas: The known schemas of its node types.
        with_values: Whether to include the nodes' values, which may be large.
    """
    links: list[list[Any]] = []
    nodes = [
        _node(node, graph, schemas.node(str(graph[node]["class_type"])), links, with_values)
        for node in graph
    ]
    by_id = {str(node["id"]): node for node in nodes}
    for link in links:
        _add_output(by_id[str(link[1])], link)
    for order, (node, place) in enumerate(_places(graph)):
        by_id[node] |= {"order": order, "pos": place}
    numbers = [node["id"] for node in nodes if isinstance(node["id"], int)]
    return {
        "last_node_id": max(numbers, default=0),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": VERSION,
    }


def _node(
    node: str,
    graph: Graph,
    schema: NodeSchema | None,
    links: list[list[Any]],
    with_values: bool,
) -> dict[str, Any]:
    kind, values = str(graph[node]["class_type"]), graph[node]["inputs"]
    known_inputs: Mapping[str, InputSchema] = schema.inputs if schema is not None else {}
    names = sorted(known_inputs, key=lambda name: not known_inputs[name].is_required)
    slots: list[dict[str, Any]] = []
    widgets: list[Any] = []
    for name in dict.fromkeys([*names, *values]):
        known = known_inputs.get(name)
        value = values.get(name)
        is_value = value is not None and not is_link_shaped(value)
        is_widget = is_value if known is None else known.type in _WIDGETS
        if is_widget and with_values:
            widgets += _widget_values(name, None if is_link_shaped(value) else value, known)
        if is_link_shaped(value) and value[0] in graph:
            link = [len(links) + 1, _id(value[0]), value[1], _id(node), len(slots), _type(known)]
            links.append(link)
            widget = {"widget": {"name": name}} if is_widget else {}
            slots.append({"name": name, "type": _type(known), "link": link[0], **widget})
        elif not is_widget:
            slots.append({"name": name, "type": _type(known), "link": None})
    outputs = schema.outputs if schema else ()
    heading = title(graph, node)
    return {
        "id": _id(node),
        "type": kind,
        "pos": [0, 0],
        "size": list(_SIZE),
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": each, "type": each, "links": []} for each in outputs],
        **({"title": heading} if heading != kind else {}),
        "properties": {"Node name for S&R": kind},
        "widgets_values": widgets,
    }


def _widget_values(name: str, value: object, schema: InputSchema | None) -> Iterator[object]:
    yield mapping(value).get("__value__", value)
    if name in _SEEDS and (schema is None or schema.type == "INT"):
        yield _KEEP_SEED


def _type(schema: InputSchema | None) -> str:
    return schema.type if schema is not None else "*"


def _id(node: str) -> int | str:
    return int(node) if node.isascii() and node.isdecimal() else node


def _add_output(node: dict[str, Any], link: list[Any]) -> None:
    outputs: list[dict[str, Any]] = node["outputs"]
    slot = link[2]
    if not isinstance(slot, int) or not 0 <= slot < _MOST_OUTPUTS:  # the server will refuse it
        return
    outputs += [{"name": "*", "type": "*", "links": []} for _ in range(slot + 1 - len(outputs))]
    outputs[slot]["links"] += [link[0]]


def _places(graph: Graph) -> Iterator[tuple[str, list[int]]]:
    """Yield the nodes in an order in which they can run, with their places: a column per step."""
    links, column, left = links_of(graph), 0, dict.fromkeys(graph)
    sorter = TopologicalSorter(links)
    with contextlib.suppress(CycleError):  # the nodes before the cycle can be sorted all the same
        sorter.prepare()
    while left:
        # Nodes of a cycle, which no server runs, come last together.
        ready = [node for node in sorter.get_ready() if node in left] or [*left]
        for row, node in enumerate(ready):
            del left[node]
            yield str(_id(node)), [column * _COLUMN, row * _ROW]
        if left:
            sorter.done(*ready)
        column += 1
