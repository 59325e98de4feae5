"""What a new export of a workflow changes for the callers of its class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from comfyloom._core.suggestions import nearest, nearest_words
from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom_codegen.bindings.selectors import Address, Nodes, title_of
from comfyloom_codegen.exports.matching import Match
from comfyloom_codegen.exports.previous_module import Former
from comfyloom_codegen.modelling.model import Module

ChangeKind: TypeAlias = Literal["moved", "changed", "renamed", "gone", "new"]

_NEAREST: Final = 3
_HINTS: Final = 20


@attrs.frozen(kw_only=True)
class Change:
    """What became of one public name.

    Attributes:
        file: The workflow file.
        name: The name, of an input or a result.
        kind: `moved` with its nodes to other ids, `changed` to other nodes, `renamed`, `gone`, or
            `new`.
        detail: Where it is, or what is nearest to it now.
        moves: The ids of its nodes, before and now, if it has moved with them.
    """

    file: str
    name: str
    kind: ChangeKind
    detail: str
    moves: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {self.name}: {self.detail}"


def changes(
    former: Former, old: Graph, module: Module, matches: Mapping[str, Match]
) -> tuple[Change, ...]:
    """Return what changed for callers between the module before and the module now.

    Args:
        former: The public names of the module before.
        old: Its graph.
        module: The module now.
        matches: Where the nodes of the old graph are in the new one.
    """
    teller = _Teller(old, module, matches)
    return (*teller.inputs(former), *teller.results(former))


class _Teller:
    def __init__(self, old: Graph, module: Module, matches: Mapping[str, Match]) -> None:
        self._old = Nodes(old)
        self._new = Nodes(module.graph)
        self._module = module
        self._matches = matches
        self._hints = _HINTS

    def inputs(self, former: Former) -> Iterator[Change]:
        before = {
            name: frozenset((to.node, to.input) for to in targets)
            for name, targets in former.inputs.items()
        }
        now = {
            str(field.name): frozenset((to.node, to.input) for to in field.spec.targets)
            for field in self._module.fields
        }
        yield from self._compare(before, now)

    def results(self, former: Former) -> Iterator[Change]:
        before = {name: frozenset({(node, "")}) for name, node in former.results.items()}
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
        heirs = {addresses: name for name, addresses in now.items() if name not in before}
        inherited: set[str] = set()
        for name, addresses in before.items():
            there = expected[name]
            if name in now:
                if now[name] != addresses:
                    yield self._journey(name, addresses, now[name], there)
            elif there is not None and there in heirs:
                inherited.add(heirs[there])
                yield self._change(name, "renamed", f"is called {heirs[there]} now")
            else:
                yield self._change(name, "gone", self._loss(addresses))
        for name in (name for name in now if name not in before and name not in inherited):
            yield self._change(name, "new", f"is new ({self._places(self._new, now[name])})")

    def _change(self, name: str, kind: ChangeKind, detail: str) -> Change:
        return Change(file=self._module.file, name=name, kind=kind, detail=detail)

    def _moved(self, addresses: Iterable[Address]) -> frozenset[Address] | None:
        """Return where node inputs are now, None if one of them is gone."""
        found: set[Address] = set()
        for node, name in addresses:
            there = self._matches.get(node)
            if there is None or (name and name not in self._new.graph[there.node]["inputs"]):
                return None
            found.add((there.node, name))
        return frozenset(found)

    def _journey(
        self,
        name: str,
        before: frozenset[Address],
        now: frozenset[Address],
        expected: frozenset[Address] | None,
    ) -> Change:
        places = f"{self._places(self._old, before)} → {self._places(self._new, now)}"
        if now != expected:
            return self._change(name, "changed", f"{places}, other inputs than before")
        nodes = sorted({node for node, _ in before})
        hows = " and ".join(sorted({self._matches[node].how for node in nodes}))
        return attrs.evolve(
            self._change(name, "moved", f"{places}, found again by {hows}"),
            moves=tuple((node, self._matches[node].node) for node in nodes),
        )

    def _places(self, nodes: Nodes, addresses: Iterable[Address]) -> str:
        return nodes.named(dict.fromkeys(node for node, _ in sorted(addresses)))

    def _loss(self, addresses: Iterable[Address]) -> str:
        return "is gone: " + "; ".join(self._lost(*address) for address in sorted(addresses))

    def _lost(self, node: str, name: str) -> str:
        there = self._matches.get(node)
        if there is None:
            return f"node {self._old.named([node])} is gone{self._near_nodes(node)}"
        inputs = self._new.graph[there.node]["inputs"]
        shown = self._new.named([there.node])
        if name and name not in inputs:
            near = nearest(name, inputs)
            hint = "" if near is None else f"; nearest is {near!r}"
            return f"node {shown} has no input {name!r} any more{hint}"
        value = inputs.get(name)
        if is_link_shaped(value) and value[0] in self._new.graph:
            source = self._new.named([value[0]])
            return f"input {name!r} of node {shown} is linked to node {source} now"
        return f"node {shown} is not public any more"

    def _near_nodes(self, node: str) -> str:
        if self._hints == 0:  # so much is gone that nobody reads it one by one
            return ""
        self._hints -= 1
        entry = self._old.graph[node]
        titles = {title_of(each): other for other, each in self._new.graph.items()}
        alike = nearest_words(title_of(entry), filter(None, titles), _NEAREST)
        of_class = [
            other
            for other, each in self._new.graph.items()
            if each["class_type"] == entry["class_type"]
        ]
        near = list(dict.fromkeys([*(titles[title] for title in alike), *of_class]))
        return f"; nearest: {self._new.named(near[:_NEAREST])}" if near else ""
