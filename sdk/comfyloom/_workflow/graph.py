"""A ComfyUI graph in API format, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeGuard, cast

from comfyloom.errors import GraphError

Graph: TypeAlias = dict[str, dict[str, Any]]
"""`{node id: {"class_type": …, "inputs": {name: literal or [source id, slot]}, "_meta": …}}`."""


Links: TypeAlias = Mapping[str, tuple[str, ...]]
"""The ids of the nodes that each node is linked to, by node id."""


def is_link_shaped(value: object) -> TypeGuard[list[Any]]:
    """Return whether a value has the shape of a link; the node it names may not exist."""
    return (
        isinstance(value, list)
        and len(value) == 2  # pyright: ignore[reportUnknownArgumentType]
        and isinstance(value[0], str)
        and type(value[1]) is int  # pyright: ignore[reportUnknownArgumentType]
    )


def literal(value: Any) -> Any:
    """Return a value as it must be written in a graph: ComfyUI reads any bare list as a link."""
    if isinstance(value, list | tuple):
        return {"__value__": list(cast("Iterable[object]", value))}
    return value


def title(graph: Mapping[str, Mapping[str, Any]], node: str) -> str:
    """Return the title of a node, else its class type, else its id."""
    entry = graph.get(node, {})
    meta: object = entry.get("_meta")
    given = cast("Mapping[str, Any]", meta).get("title") if isinstance(meta, dict) else None
    return str(given or entry.get("class_type") or node)


def check_graph(graph: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if a server would reject the graph, or hang because of it.

    ComfyUI accepts a node without an `inputs` object if no output node needs it, but then its
    worker thread dies and is never restarted.

    Raises:
        GraphError: The graph is empty, a node has no class type or no inputs, or a link is
            dangling.
    """
    if not graph:
        raise GraphError("the workflow has no nodes")
    for node, entry in graph.items():
        _check_node(graph, node, entry)


def _check_node(graph: Mapping[str, object], node: str, entry: Mapping[str, Any]) -> None:
    if not isinstance(entry.get("class_type"), str):
        raise GraphError(f"node {node} has no class_type", node=node)
    if not isinstance(entry.get("inputs"), dict):
        raise GraphError(f"node {node} has no inputs object", node=node)
    inputs: dict[str, object] = entry["inputs"]
    for name, value in inputs.items():
        if is_link_shaped(value) and value[0] not in graph:
            reason = f"node {node}: input {name} links to node {value[0]}, which does not exist"
            raise GraphError(reason, node=node)


def links_of(graph: Mapping[str, Mapping[str, Any]]) -> Links:
    """Return the nodes that each node is linked to, without dangling links."""
    return {
        node: tuple(
            value[0]
            for value in entry["inputs"].values()
            if is_link_shaped(value) and value[0] in graph
        )
        for node, entry in graph.items()
    }


def cycle_in(links: Links) -> list[str]:
    """Return the nodes of a cycle, the first one repeated at the end; [] if there is none.

    The search is not recursive, so that a deep graph does not exceed Python's recursion limit.
    """
    done: set[str] = set()
    for start in links:
        path = {start: iter(links[start])} if start not in done else {}
        while path:
            last = next(reversed(path))
            node = next((each for each in path[last] if each not in done), None)
            if node is None:
                done.add(last)
                del path[last]
            elif node in path:
                cycle = list(path)
                return [*cycle[cycle.index(node) :], node]
            else:
                path[node] = iter(links[node])
    return []


def reachable_from(ends: Iterable[str], links: Links) -> frozenset[str]:
    """Return the given nodes and all nodes that they depend on."""
    needed: set[str] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += links[node]
    return frozenset(needed)
