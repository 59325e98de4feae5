"""Which node of a new export is which node of the one before: by title, by shape, by class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom_codegen.bindings.selectors import title_of

How: TypeAlias = Literal["title", "shape", "id", "class"]

_ROUNDS: Final = 12
"""So far does what is known of a node tell of its neighbours, and they of theirs."""


@attrs.frozen
class Match:
    """Where a node is now, and how it was found again."""

    node: str
    how: How


def match(old: Graph, new: Graph) -> dict[str, Match]:
    """Return where the nodes of a graph are in another export of it; some may be gone.

    What has kept its id, values and links is the same node, whatever its title is now. Then a title
    that is the only one of its class is believed, then what a node holds and is linked with, then
    an id that still has its class, and last a class that is the only one of its kind. What fits
    several is left out.

    Args:
        old: The graph before.
        new: The graph now.
    """
    matcher = _Matcher(old, new)
    matcher.pair_unchanged()
    matcher.pair("title", lambda graph, node: _titled(graph, node))
    matcher.pair_by_shape()
    matcher.pair("id", lambda graph, node: (node, graph[node]["class_type"]))
    matcher.pair_by_shape()
    matcher.pair("class", lambda graph, node: graph[node]["class_type"])
    return matcher.found


def _titled(graph: Graph, node: str) -> Hashable | None:
    title = title_of(graph[node])
    return (title, graph[node]["class_type"]) if title else None


Key: TypeAlias = Callable[[Graph, str], Hashable | None]


class _Matcher:
    def __init__(self, old: Graph, new: Graph) -> None:
        self.found: dict[str, Match] = {}
        self._old = old
        self._new = new
        self._taken: dict[str, str] = {}
        self._users = {id(graph): _users(graph) for graph in (old, new)}

    def pair(self, how: How, key: Key) -> bool:
        """Match the nodes whose key is the only one of its kind on both sides."""
        before = _unique(key, self._old, self._rest(self._old, self.found))
        after = _unique(key, self._new, self._rest(self._new, self._taken))
        pairs = [(node, after[k]) for k, node in before.items() if k in after]
        for node, there in pairs:
            self.found[node] = Match(there, how)
            self._taken[there] = node
        return bool(pairs)

    def pair_unchanged(self) -> None:
        """Match what has kept its id, values and links, unless it has the title of another now."""
        titles = {_titled(self._old, node) for node in self._old}
        shape = self._shape(True, with_id=True)

        def key(graph: Graph, node: str) -> Hashable | None:
            there = self._new.get(node)
            if there is None or node not in self._old:
                return None
            is_old = title_of(there) == title_of(self._old[node])
            return shape(graph, node) if is_old or _titled(self._new, node) not in titles else None

        self.pair("id", key)

    def pair_by_shape(self) -> None:
        """Match what holds and is linked with the same, each match telling more of the others."""
        for has_values in (True, False):
            # The id first: of several that look alike, the one that kept its id is meant.
            for _ in range(_ROUNDS):
                found = self.pair("id", self._shape(has_values, with_id=True))
                if not (self.pair("shape", self._shape(has_values)) or found):
                    break

    def _rest(self, graph: Graph, known: Mapping[str, object]) -> Iterable[str]:
        return [node for node in graph if node not in known]

    def _shape(self, has_values: bool, *, with_id: bool = False) -> Key:
        def key(graph: Graph, node: str) -> Hashable:
            entry = graph[node]
            inputs = tuple(sorted(self._inputs(graph, entry["inputs"], has_values)))
            users = tuple(sorted(self._linked(graph, node)))
            return node if with_id else "", entry["class_type"], inputs, users

        return key

    def _inputs(
        self, graph: Graph, inputs: Mapping[str, object], has_values: bool
    ) -> Iterator[tuple[str, str]]:
        for name, value in inputs.items():
            if is_link_shaped(value):
                yield name, f"link {value[1]} {self._name(graph, value[0])}"
            else:
                yield name, f"value {value!r}" if has_values else "value"

    def _linked(self, graph: Graph, node: str) -> Iterator[tuple[str, str]]:
        for user, name in self._users[id(graph)].get(node, ()):
            yield self._name(graph, user), name

    def _name(self, graph: Graph, node: str) -> str:
        """Return one name for a node on both sides: its id now if it is known, else its class."""
        if node not in graph:
            return "nothing"
        if graph is self._old:
            there = self.found[node].node if node in self.found else None
        else:
            there = node if node in self._taken else None
        return f"={there}" if there is not None else f":{graph[node]['class_type']}"


def _users(graph: Graph) -> dict[str, list[tuple[str, str]]]:
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if is_link_shaped(value):
                found[value[0]].append((node, name))
    return found


def _unique(key: Key, graph: Graph, nodes: Iterable[str]) -> dict[Hashable, str]:
    groups: defaultdict[Hashable, list[str]] = defaultdict(list)
    for node in nodes:
        if (found := key(graph, node)) is not None:
            groups[found].append(node)
    return {each: group[0] for each, group in groups.items() if len(group) == 1}
