"""The links of a graph, and the order in which its nodes run."""

from typing import Any

import attrs

from comfyloom_emulator.comfyui.queue import Graph
from comfyloom_emulator.json_access import as_array

_MAX_DISTANCE = 3


def link_of(value: Any) -> tuple[str, Any] | None:
    """Return source node and slot if an input's value is a link, else None."""
    pair = as_array(value)
    if pair is None or len(pair) != 2 or not isinstance(pair[0], str):
        return None
    return (pair[0], pair[1]) if isinstance(pair[1], (int, float)) else None


def linked_nodes(graph: Graph, node: str) -> list[str]:
    """Return the existing nodes that a node's inputs are linked to, in order of the inputs."""
    links = [link_of(value) for value in graph[node]["inputs"].values()]
    return [link[0] for link in links if link is not None and link[0] in graph]


@attrs.define
class ExecutionOrder:
    """Yields the nodes that the outputs need, each after the nodes it is linked to.

    If several nodes could run next, an output goes first, then a node one or two links before an
    output, then the node found first in a depth-first walk from the outputs that follows the last
    input first. A cached node counts as done, unless it is an output.
    """

    graph: Graph
    outputs: list[str]
    cached: set[str]
    _waiting: dict[str, set[str]] = attrs.field(factory=dict[str, set[str]], init=False)
    _users: dict[str, set[str]] = attrs.field(factory=dict[str, set[str]], init=False)

    def __attrs_post_init__(self) -> None:
        for output in self.outputs:
            self._add_upstream(output)

    def next(self) -> str | None:
        """Return the node to run next; None if all have run."""
        ready = [node for node, blockers in self._waiting.items() if not blockers]
        return min(ready, key=self._distance, default=None)

    def done(self, node: str) -> None:
        """Mark a node as done."""
        del self._waiting[node]
        for blockers in self._waiting.values():
            blockers.discard(node)

    def _add_upstream(self, output: str) -> None:
        stack = [output]
        while stack:
            node = stack.pop()
            if node in self._waiting:
                continue
            needed = [s for s in linked_nodes(self.graph, node) if s not in self.cached]
            self._waiting[node] = set(needed)
            for source in needed:
                self._users.setdefault(source, set()).add(node)
            stack += [source for source in needed if source not in self._waiting]

    def _distance(self, node: str) -> int:
        targets, reached = set(self.outputs), {node}
        for distance in range(_MAX_DISTANCE):
            if reached & targets:
                return distance
            reached = {user for near in reached for user in self._users.get(near, ())}
        return _MAX_DISTANCE
