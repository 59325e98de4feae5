"""Links of a graph, and the order in which its nodes run."""

from typing import Any

import attrs

from comfyloom_emulator.comfyui.queue import Graph
from comfyloom_emulator.json_access import as_array

_FAR = 3


def link_of(value: Any) -> tuple[str, Any] | None:
    """Source node and slot if an input's value is a link: a text and a number."""
    pair = as_array(value)
    if pair is None or len(pair) != 2 or not isinstance(pair[0], str):
        return None
    return (pair[0], pair[1]) if isinstance(pair[1], (int, float)) else None


def sources(graph: Graph, node: str) -> list[str]:
    """The nodes that a node's inputs are linked to, in order, that exist."""
    links = [link_of(value) for value in graph[node]["inputs"].values()]
    return [link[0] for link in links if link is not None and link[0] in graph]


@attrs.define
class RunOrder:
    """Hands out the nodes that the outputs need, each after the ones it is linked to.

    Among the nodes that could run next an output goes first, then what is one or two links before
    an output; else the one that was met first on the way up from the outputs, where the last
    input is followed first. A cached node counts as done, unless it is an output.
    """

    graph: Graph
    outputs: list[str]
    cached: set[str]
    _waiting: dict[str, set[str]] = attrs.field(factory=dict[str, set[str]], init=False)
    _users: dict[str, set[str]] = attrs.field(factory=dict[str, set[str]], init=False)

    def __attrs_post_init__(self) -> None:
        for output in self.outputs:
            self._climb(output)

    def next(self) -> str | None:
        """The node to run next; None when all have run."""
        ready = [node for node, blockers in self._waiting.items() if not blockers]
        return min(ready, key=self._distance, default=None)

    def done(self, node: str) -> None:
        """Mark a node as run."""
        del self._waiting[node]
        for blockers in self._waiting.values():
            blockers.discard(node)

    def _climb(self, output: str) -> None:
        stack = [output]
        while stack:
            node = stack.pop()
            if node in self._waiting:
                continue
            needed = [s for s in sources(self.graph, node) if s not in self.cached]
            self._waiting[node] = set(needed)
            for source in needed:
                self._users.setdefault(source, set()).add(node)
            stack += [source for source in needed if source not in self._waiting]

    def _distance(self, node: str) -> int:
        targets, reached = set(self.outputs), {node}
        for distance in range(_FAR):
            if reached & targets:
                return distance
            reached = {user for near in reached for user in self._users.get(near, ())}
        return _FAR
