"""The changes that a new export of a workflow makes for callers of its class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom._core.suggestions import nearest, nearest_words
from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom_codegen.bindings.selectors import Address, NodeIndex, title_of
from comfyloom_codegen.exports.matching import Match
from comfyloom_codegen.exports.previous_module import PreviousModule
from comfyloom_codegen.modelling.model import Module

ChangeKind: TypeAlias = Literal["moved", "changed", "renamed", "gone", "new"]

_MAX_SIMILAR: Final = 3
_MAX_HINTS: Final = 20


@attrs.frozen(kw_only=True)
class Change:
    """The change of one public name.

    Attributes:
        file: The workflow file.
        name: The name of an input or a result.
        kind: `moved` if its nodes have new ids, `changed` if it has other nodes, `renamed`, `gone`
            or `new`.
        detail: Its new target, or the most similar one.
        moves: The previous and the new id of each of its nodes, for `moved`.
    """

    file: str
    name: str
    kind: ChangeKind
    detail: str
    moves: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {self.name}: {self.detail}"


def changes(
    previous: PreviousModule, old: Graph, module: Module, matches: Mapping[str, Match]
) -> tuple[Change, ...]:
    """Return the changes for callers between the previous and the new module.

    Args:
        previous: The public names of the previous module.
        old: The graph of the previous module.
        module: The new module.
        matches: The new node of each node of the old graph.
    """
    finder = _ChangeFinder(old, module, matches)
    return (*finder.inputs(previous), *finder.results(previous))


class _ChangeFinder:
    def __init__(self, old: Graph, module: Module, matches: Mapping[str, Match]) -> None:
        self._old = NodeIndex(old)
        self._new = NodeIndex(module.graph)
        self._module = module
        self._matches = matches
        self._hints_left = _MAX_HINTS

    def inputs(self, previous: PreviousModule) -> Iterator[Change]:
        before = {
            name: frozenset((to.node, to.input) for to in targets)
            for name, targets in previous.inputs.items()
        }
        now = {
            str(field.name): frozenset((to.node, to.input) for to in field.spec.targets)
            for field in self._module.fields
        }
        yield from self._compare(before, now)

    def results(self, previous: PreviousModule) -> Iterator[Change]:
        before = {name: frozenset({(node, "")}) for name, node in previous.results.items()}
        now = {
            str(result.name): frozenset({(result.spec.node, "")}) for result in self._module.results
        }
        yield from self._compare(before, now)

    def _compare(
        self,
        before: Mapping[str, frozenset[Address]],
        now: Mapping[str, frozenset[Address]],
    ) -> Iterator[Change]:
        expected = {name: self._moved(addresses) for name, addresses in before.items()}
        added = {addresses: name for name, addresses in now.items() if name not in before}
        new_names: set[str] = set()
        for name, addresses in before.items():
            target = expected[name]
            if name in now:
                if now[name] != addresses:
                    yield self._move(name, addresses, now[name], target)
            elif target is not None and target in added:
                new_names.add(added[target])
                yield self._change(name, "renamed", f"is now called {added[target]}")
            else:
                yield self._change(name, "gone", self._loss(addresses))
        for name in (name for name in now if name not in before and name not in new_names):
            yield self._change(name, "new", f"is new ({self._describe(self._new, now[name])})")

    def _change(self, name: str, kind: ChangeKind, detail: str) -> Change:
        return Change(file=self._module.file, name=name, kind=kind, detail=detail)

    def _moved(self, addresses: Iterable[Address]) -> frozenset[Address] | None:
        """Return the new addresses of node inputs, None if one of them is gone."""
        found: set[Address] = set()
        for node, name in addresses:
            match = self._matches.get(node)
            if match is None or (name and name not in self._new.graph[match.node]["inputs"]):
                return None
            found.add((match.node, name))
        return frozenset(found)

    def _move(
        self,
        name: str,
        before: frozenset[Address],
        now: frozenset[Address],
        expected: frozenset[Address] | None,
    ) -> Change:
        nodes = f"{self._describe(self._old, before)} → {self._describe(self._new, now)}"
        if now != expected:
            return self._change(name, "changed", f"{nodes}, not the same inputs as before")
        ids = sorted({node for node, _ in before})
        methods = " and ".join(sorted({self._matches[node].method for node in ids}))
        return attrs.evolve(
            self._change(name, "moved", f"{nodes}, matched by {methods}"),
            moves=tuple((node, self._matches[node].node) for node in ids),
        )

    def _describe(self, nodes: NodeIndex, addresses: Iterable[Address]) -> str:
        return nodes.describe(dict.fromkeys(node for node, _ in sorted(addresses)))

    def _loss(self, addresses: Iterable[Address]) -> str:
        return "is gone: " + "; ".join(self._loss_of(*address) for address in sorted(addresses))

    def _loss_of(self, node: str, name: str) -> str:
        match = self._matches.get(node)
        if match is None:
            return f"node {self._old.describe([node])} is gone{self._similar_nodes(node)}"
        inputs = self._new.graph[match.node]["inputs"]
        shown = self._new.describe([match.node])
        if name and name not in inputs:
            near = nearest(name, inputs)
            hint = "" if near is None else f"; the most similar is {near!r}"
            return f"node {shown} no longer has an input {name!r}{hint}"
        value = inputs.get(name)
        if is_link_shaped(value) and value[0] in self._new.graph:
            source = self._new.describe([value[0]])
            return f"input {name!r} of node {shown} is now linked to node {source}"
        return f"node {shown} is no longer public"

    def _similar_nodes(self, node: str) -> str:
        if self._hints_left == 0:  # more hints than this would only hide the changes
            return ""
        self._hints_left -= 1
        entry = self._old.graph[node]
        titles = {title_of(each): other for other, each in self._new.graph.items()}
        alike = nearest_words(title_of(entry), filter(None, titles), _MAX_SIMILAR)
        same_type = [
            other
            for other, each in self._new.graph.items()
            if each["class_type"] == entry["class_type"]
        ]
        near = list(dict.fromkeys([*(titles[title] for title in alike), *same_type]))
        return f"; similar: {self._new.describe(near[:_MAX_SIMILAR])}" if near else ""
