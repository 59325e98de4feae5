"""Match the nodes of a new export with the nodes of the previous one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom_codegen.bindings.selectors import title_of

MatchMethod: TypeAlias = Literal["title", "contents", "id", "type"]

_MAX_ROUNDS: Final = 12
"""Rounds in which new matches help to match their neighbours."""


@attrs.frozen
class Match:
    """The new node of a previous one, and the method that matched it."""

    node: str
    method: MatchMethod


def match(old: Graph, new: Graph) -> dict[str, Match]:
    """Return the new node of each old node; nodes that are gone or ambiguous are left out.

    Nodes are matched in this order: unchanged id, values and links, whatever the title; a title
    that is unique for its node type; contents and links; an id with the same node type; a unique
    node type.

    Args:
        old: The graph of the previous export.
        new: The graph of the new export.
    """
    matcher = _Matcher(old, new)
    matcher.match_unchanged()
    matcher.match_unique("title", _titled)
    matcher.match_by_contents()
    matcher.match_unique("id", lambda graph, node: (node, graph[node]["class_type"]))
    matcher.match_by_contents()
    matcher.match_unique("type", lambda graph, node: graph[node]["class_type"])
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

    def match_unique(self, method: MatchMethod, key: Key) -> bool:
        """Match the nodes whose key is unique in both graphs; return whether there were any."""
        before = _unique(key, self._old, self._unmatched(self._old, self.found))
        after = _unique(key, self._new, self._unmatched(self._new, self._taken))
        pairs = [(node, after[k]) for k, node in before.items() if k in after]
        for node, counterpart in pairs:
            self.found[node] = Match(counterpart, method)
            self._taken[counterpart] = node
        return bool(pairs)

    def match_unchanged(self) -> None:
        """Match nodes with the same id, values and links, unless their title was another node's."""
        titles = {_titled(self._old, node) for node in self._old}
        contents = self._contents(True, with_id=True)

        def key(graph: Graph, node: str) -> Hashable | None:
            entry = self._new.get(node)
            if entry is None or node not in self._old:
                return None
            has_same_title = title_of(entry) == title_of(self._old[node])
            if has_same_title or _titled(self._new, node) not in titles:
                return contents(graph, node)
            return None

        self.match_unique("id", key)

    def match_by_contents(self) -> None:
        """Match nodes with equal contents and links; each match may identify its neighbours."""
        for has_values in (True, False):
            # With the id first: of several equal nodes, the one with the same id is meant.
            for _ in range(_MAX_ROUNDS):
                found = self.match_unique("id", self._contents(has_values, with_id=True))
                if not (self.match_unique("contents", self._contents(has_values)) or found):
                    break

    def _unmatched(self, graph: Graph, known: Mapping[str, object]) -> Iterable[str]:
        return [node for node in graph if node not in known]

    def _contents(self, has_values: bool, *, with_id: bool = False) -> Key:
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
                yield name, f"link {value[1]} {self._label(graph, value[0])}"
            else:
                yield name, f"value {value!r}" if has_values else "value"

    def _linked(self, graph: Graph, node: str) -> Iterator[tuple[str, str]]:
        for user, name in self._users[id(graph)].get(node, ()):
            yield self._label(graph, user), name

    def _label(self, graph: Graph, node: str) -> str:
        """Return the same label for a node in both graphs: its new id if matched, else its type."""
        if node not in graph:
            return "nothing"
        if graph is self._old:
            new_id = self.found[node].node if node in self.found else None
        else:
            new_id = node if node in self._taken else None
        return f"={new_id}" if new_id is not None else f":{graph[node]['class_type']}"


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
