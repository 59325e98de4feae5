"""A binding follows a workflow that was exported again: what moved gets its new selector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from comfyloom.graph import Graph
from comfyloom_codegen.bindings.entries import Binding, PartEntry, Selector, TargetEntry
from comfyloom_codegen.bindings.naming import best_part, best_selector, best_target
from comfyloom_codegen.bindings.selectors import Nodes, SelectorError
from comfyloom_codegen.bindings.toml_text import entry_value, selector_value
from comfyloom_codegen.exports.matching import How, Match

_HOW: Final[dict[How, str]] = {
    "title": "its title",
    "shape": "what it holds and is linked with",
    "id": "its id",
    "class": "its class",
}


@attrs.frozen(kw_only=True)
class Followed:
    """One selector of a binding that was written anew."""

    entry: str
    before: str
    after: str
    node: str
    how: How

    def __str__(self) -> str:
        found = f"node {self.node}, found again by {_HOW[self.how]}"
        return f"{self.entry}: {self.before} is now {self.after} ({found})"


@attrs.frozen(kw_only=True)
class Rebound:
    """A binding after a new export of its workflow."""

    text: str
    followed: tuple[Followed, ...]


def rebind(
    text: str, binding: Binding, old: Graph, new: Graph, matches: Mapping[str, Match]
) -> Rebound | None:
    """Return a binding whose selectors mean in a new export what they meant in the one before.

    A selector that still fits one node is left as it is, unless it is an id which is another
    node's now. Comments and layout stay. None if nothing has to be written anew.

    Args:
        text: The binding, in TOML.
        binding: What it says.
        old: The graph that it was last used with.
        new: The graph now.
        matches: Where the nodes of the old graph are in the new one.
    """
    follower = _Follower(old, new, matches)
    found = [(place, there) for place in _places(binding) if (there := follower.follow(place))]
    if not found:
        return None
    import tomlkit

    document = tomlkit.parse(text)
    for place, followed in found:
        _replace(document, place, followed.value)
    return Rebound(
        text=tomlkit.dumps(document),  # pyright: ignore[reportUnknownMemberType]
        followed=tuple(followed.told for _, followed in found),
    )


@attrs.frozen
class _Place:
    """Where a selector stands: the keys that lead to it, and what it says."""

    keys: tuple[str | int, ...]
    entry: Selector | TargetEntry | PartEntry

    def __str__(self) -> str:
        return ".".join(str(key) for key in self.keys if isinstance(key, str) and key != "to")


@attrs.frozen
class _There:
    value: object
    told: Followed


def _places(binding: Binding) -> Iterator[_Place]:
    for name, entry in binding.inputs.items():
        for number, target in enumerate(entry.to):
            yield _Place(("inputs", name, "to", number), target)
    for name, result in binding.results.items():
        yield _Place(("results", name, "node"), result.node)
    for number, stage in enumerate(binding.stages):
        for place, selector in enumerate(stage.nodes):
            yield _Place(("stages", number, "nodes", place), selector)
    for key, parts in (("expose", binding.expose or []), ("hide", binding.hide)):
        for number, part in enumerate(parts):
            yield _Place((key, number), part)


class _Follower:
    def __init__(self, old: Graph, new: Graph, matches: Mapping[str, Match]) -> None:
        self._old = Nodes(old)
        self._new = Nodes(new)
        self._matches = matches

    def follow(self, place: _Place) -> _There | None:
        """Return what a selector must say now, None if it may stay or nothing better is known."""
        before = _meant(self._old, place.entry)
        if before is None:
            return None
        there = self._matches.get(before[0])
        if there is None or self._may_stay(place.entry, before, there):
            return None
        if before[1] and before[1] not in self._new.graph[there.node]["inputs"]:
            return None
        value = self._best(place.entry, there.node, before[1])
        told = Followed(
            entry=str(place),
            before=_shown(_value(place.entry)),
            after=_shown(value),
            node=there.node,
            how=there.how,
        )
        return _There(value, told)

    def _may_stay(self, entry: Any, before: tuple[str, str], there: Match) -> bool:
        now = _meant(self._new, entry)
        if now is None:
            return False
        return now == (there.node, before[1]) or not _is_by_id(self._new, entry, now)

    def _best(self, entry: Selector | TargetEntry | PartEntry, node: str, name: str) -> object:
        if isinstance(entry, Selector):
            return selector_value(best_selector(self._new, node))
        if isinstance(entry, TargetEntry) or name:
            return entry_value(best_target(self._new, (node, name)))
        return entry_value(best_part(self._new, node))


def _meant(nodes: Nodes, entry: Selector | TargetEntry | PartEntry) -> tuple[str, str] | None:
    """Return the node and the input that an entry means in a graph; "" for all of its inputs."""
    try:
        if isinstance(entry, Selector):
            return nodes.find(entry), ""
        if isinstance(entry, TargetEntry):
            return nodes.address(entry)
        return None if entry.text == "*" else nodes.part_of(entry)
    except SelectorError:
        return None


def _is_by_id(nodes: Nodes, entry: Any, now: tuple[str, str]) -> bool:
    """Return whether an entry means a node by nothing but its id."""
    selector: Selector = entry if isinstance(entry, Selector) else entry.node
    text = str(entry.text)
    if not text:
        return bool(selector.id)
    return text in (now[0], f"{now[0]}.{now[1]}") and not nodes.has_name(now[0])


def _value(entry: Selector | TargetEntry | PartEntry) -> object:
    return selector_value(entry) if isinstance(entry, Selector) else entry_value(entry)


def _shown(value: object) -> str:
    from comfyloom_codegen.bindings.toml_text import toml

    return toml(value)


def _replace(document: Any, place: _Place, value: object) -> None:
    holder: Any = document
    for key in place.keys[:-1]:
        holder = holder[key]
    holder[place.keys[-1]] = value
