"""A binding follows a workflow that was exported again: what moved gets its new selector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from comfyloom._workflow.graph import Graph
from comfyloom_codegen.bindings.entries import Binding, PartEntry, Selector, TargetEntry
from comfyloom_codegen.bindings.naming import best_part, best_selector, best_target, is_writable
from comfyloom_codegen.bindings.selectors import Nodes, SelectorError
from comfyloom_codegen.bindings.toml_text import entry_value, selector_value
from comfyloom_codegen.exports.matching import How, Match
from comfyloom_codegen.exports.previous_module import Former
from comfyloom_codegen.modelling import unbound

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
    followed: tuple[Followed, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    """Entries that name an id which is another node's now, and why they cannot be followed."""


def rebind(
    text: str,
    binding: Binding,
    former: Former,
    old: Graph,
    new: Graph,
    matches: Mapping[str, Match],
) -> Rebound | None:
    """Return a binding whose selectors mean in a new export what they meant in the one before.

    A selector that still fits one node is left as it is, unless it is an id which is another
    node's now. So is one that did not mean before what the module has: somebody has changed it
    since. Comments and layout stay. None if nothing has to be written anew.

    Args:
        text: The binding, in TOML.
        binding: What it says.
        former: What the module that was made with it has.
        old: The graph that it was last used with.
        new: The graph now.
        matches: Where the nodes of the old graph are in the new one.
    """
    follower = _Follower(binding, former, old, new, matches)
    places = list(_places(binding))
    found = [(place, there) for place in places if (there := follower.follow(place))]
    lost = tuple((str(place), why) for place in places if (why := follower.loss(place)))
    if not found:
        return Rebound(text=text, lost=lost) if lost else None
    written = _written(text, {place.keys: there.value for place, there in found})
    return Rebound(text=written, followed=tuple(there.told for _, there in found), lost=lost)


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
    def __init__(
        self,
        binding: Binding,
        former: Former,
        old: Graph,
        new: Graph,
        matches: Mapping[str, Match],
    ) -> None:
        self._former = former
        self._old = Nodes(old)
        self._is_untouched = _is_untouched(binding, former, self._old)
        self._new = Nodes(new)
        self._matches = matches

    def follow(self, place: _Place) -> _There | None:
        """Return what a selector must say now, None if it may stay or nothing better is known."""
        before = self._before(place)
        if before is None:
            return None
        there = self._matches.get(before[0])
        if there is None or self._may_stay(place.entry, before, there):
            return None
        if before[1] and before[1] not in self._new.graph[there.node]["inputs"]:
            return None
        if not is_writable(there.node):
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

    def loss(self, place: _Place) -> str:
        """Return why an entry means nothing any more although its id is still there, "" if not."""
        before, now = self._before(place), _meant(self._new, place.entry)
        if before is None or now is None or before[0] in self._matches:
            return ""
        if not _is_by_id(self._new, place.entry, now):
            return ""
        was, is_now = self._old.named([before[0]]), self._new.named([now[0]])
        return f"node {was} is gone, and its id is that of node {is_now} now: name another"

    def _before(self, place: _Place) -> tuple[str, str] | None:
        """Return what an entry meant, None if nothing, or something else than the module has."""
        before = _meant(self._old, place.entry)
        return before if before and self._had(place, before) else None

    def _had(self, place: _Place, before: tuple[str, str]) -> bool:
        match place.keys:
            case ("inputs", str(name), *_):
                targets = self._former.inputs.get(name, ())
                return before in {(target.node, target.input) for target in targets}
            case ("results", str(name), *_):
                return self._former.results.get(name) == before[0]
            case ("stages", int(number), *_):
                stages = self._former.stages
                return number < len(stages) and before[0] in stages[number]
            case _:
                return self._is_untouched

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


def _is_untouched(binding: Binding, former: Former, old: Nodes) -> bool:
    """Return whether a binding makes of the old graph just what the module has public."""
    public = {(to.node, to.input) for targets in former.inputs.values() for to in targets}
    exposed = binding.expose
    if exposed is None:
        exposed = [] if binding.inputs else [PartEntry(text="*")]
    try:
        bound = {old.address(to) for entry in binding.inputs.values() for to in entry.to}
        shown = {address for part in exposed for address in old.part(part)}
        shown -= {address for part in binding.hide for address in old.part(part)}
    except SelectorError:
        return False
    return public == bound | (shown & set(unbound.public_inputs(old.graph)))


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


def _written(text: str, values: Mapping[tuple[str | int, ...], object]) -> str:
    """Return a TOML text with other values at some places."""
    import tomlkit
    from tomlkit.items import AoT

    document = tomlkit.parse(text)
    for keys, value in values.items():
        above: Any = None
        holder: Any = document
        for key in keys[:-1]:
            above, holder = holder, holder[key]
        if isinstance(holder, AoT):  # [[inputs.x.to]]: its tables cannot become texts one by one
            plain = holder.unwrap()
            above[keys[-2]] = [value if n == keys[-1] else each for n, each in enumerate(plain)]
        else:
            holder[keys[-1]] = value
    return tomlkit.dumps(document)  # pyright: ignore[reportUnknownMemberType]
