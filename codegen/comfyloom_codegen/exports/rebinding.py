"""Rewrite the selectors of a binding for a new export of its workflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._workflow.graph import Graph
from comfyloom_codegen.bindings.entries import Binding, PartEntry, Selector, TargetEntry
from comfyloom_codegen.bindings.naming import best_part, best_selector, best_target, is_writable
from comfyloom_codegen.bindings.selectors import Address, NodeIndex, SelectorError
from comfyloom_codegen.bindings.toml_text import entry_value, selector_value, toml
from comfyloom_codegen.exports.matching import Match, MatchMethod
from comfyloom_codegen.exports.previous_module import PreviousModule
from comfyloom_codegen.modelling import unbound

Entry: TypeAlias = Selector | TargetEntry | PartEntry

_METHODS: Final[dict[MatchMethod, str]] = {
    "title": "its title",
    "contents": "its contents and links",
    "id": "its id",
    "type": "its node type",
}


@attrs.frozen(kw_only=True)
class SelectorRewrite:
    """One selector of a binding that was rewritten."""

    entry: str
    before: str
    after: str
    node: str
    method: MatchMethod

    def __str__(self) -> str:
        found = f"node {self.node}, matched by {_METHODS[self.method]}"
        return f"{self.entry}: {self.before} is now {self.after} ({found})"


@attrs.frozen(kw_only=True)
class RewrittenBinding:
    """A binding after a new export of its workflow.

    Attributes:
        text: Its text, with the rewritten selectors.
        rewrites: The selectors that were rewritten.
        lost: The entries whose id now belongs to another node, each with an error message.
    """

    text: str
    rewrites: tuple[SelectorRewrite, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()


def rewrite_binding(
    text: str,
    binding: Binding,
    previous: PreviousModule,
    old: Graph,
    new: Graph,
    matches: Mapping[str, Match],
) -> RewrittenBinding | None:
    """Return a binding whose selectors name, in a new export, the nodes that they named before.

    A selector that still fits one node is kept, unless it is an id that now belongs to another
    node. A selector that did not fit the previous module is kept too: its author has changed it
    since. Comments and layout are kept. None if there is nothing to rewrite.

    Args:
        text: The binding as TOML.
        binding: The parsed binding.
        previous: The public names of the module generated with it.
        old: The graph of the previous export.
        new: The graph of the new export.
        matches: The new node of each node of the old graph.
    """
    rewriter = _SelectorRewriter(binding, previous, old, new, matches)
    located = list(_located_entries(binding))
    updates = [(each, update) for each in located if (update := rewriter.update(each))]
    lost = tuple((str(each), reason) for each in located if (reason := rewriter.loss(each)))
    if not updates:
        return RewrittenBinding(text=text, lost=lost) if lost else None
    rewritten = _with_values(text, {each.keys: update.value for each, update in updates})
    rewrites = tuple(update.rewrite for _, update in updates)
    return RewrittenBinding(text=rewritten, rewrites=rewrites, lost=lost)


@attrs.frozen
class _LocatedEntry:
    """An entry with a selector, and the keys that lead to it in the binding."""

    keys: tuple[str | int, ...]
    entry: Entry

    def __str__(self) -> str:
        return ".".join(str(key) for key in self.keys if isinstance(key, str) and key != "to")


@attrs.frozen
class _Update:
    value: object
    rewrite: SelectorRewrite


def _located_entries(binding: Binding) -> Iterator[_LocatedEntry]:
    for name, entry in binding.inputs.items():
        for index, target in enumerate(entry.to):
            yield _LocatedEntry(("inputs", name, "to", index), target)
    for name, result in binding.results.items():
        yield _LocatedEntry(("results", name, "node"), result.node)
    for number, stage in enumerate(binding.stages):
        for index, selector in enumerate(stage.nodes):
            yield _LocatedEntry(("stages", number, "nodes", index), selector)
    for index, selector in enumerate(binding.keep):
        yield _LocatedEntry(("keep", index), selector)
    for key, parts in (("expose", binding.expose or []), ("hide", binding.hide)):
        for index, part in enumerate(parts):
            yield _LocatedEntry((key, index), part)


class _SelectorRewriter:
    def __init__(
        self,
        binding: Binding,
        previous: PreviousModule,
        old: Graph,
        new: Graph,
        matches: Mapping[str, Match],
    ) -> None:
        self._previous = previous
        self._old = NodeIndex(old)
        self._is_untouched = _is_untouched(binding, previous, self._old)
        self._new = NodeIndex(new)
        self._matches = matches

    def update(self, located: _LocatedEntry) -> _Update | None:
        """Return the new value of an entry, None if it can stay or no better one is known."""
        before = self._before(located)
        if before is None:
            return None
        match = self._matches.get(before[0])
        if match is None or self._may_stay(located.entry, before, match):
            return None
        if before[1] and before[1] not in self._new.graph[match.node]["inputs"]:
            return None
        if not is_writable(match.node):
            return None
        value = self._best(located.entry, match.node, before[1])
        rewrite = SelectorRewrite(
            entry=str(located),
            before=toml(_value(located.entry)),
            after=toml(value),
            node=match.node,
            method=match.method,
        )
        return _Update(value, rewrite)

    def loss(self, located: _LocatedEntry) -> str:
        """Return why the node of an entry is gone although its id still exists, "" if it is not."""
        before, now = self._before(located), _resolve(self._new, located.entry)
        if before is None or now is None or before[0] in self._matches:
            return ""
        if not _is_by_id(self._new, located.entry, now):
            return ""
        old, new = self._old.describe([before[0]]), self._new.describe([now[0]])
        return f"node {old} is gone, and its id now belongs to node {new}: select another node"

    def _before(self, located: _LocatedEntry) -> Address | None:
        """Return what an entry named before, None if the previous module does not agree."""
        before = _resolve(self._old, located.entry)
        return before if before and self._is_in_previous(located, before) else None

    def _is_in_previous(self, located: _LocatedEntry, before: Address) -> bool:
        match located.keys:
            case ("inputs", str(name), *_):
                targets = self._previous.inputs.get(name, ())
                return before in {(target.node, target.input) for target in targets}
            case ("results", str(name), *_):
                return self._previous.results.get(name) == before[0]
            case ("stages", int(number), *_):
                stages = self._previous.stages
                return number < len(stages) and before[0] in stages[number]
            case ("keep", int(number)):
                return before[0] in self._previous.keep[number : number + 1]
            case _:
                return self._is_untouched

    def _may_stay(self, entry: Entry, before: Address, match: Match) -> bool:
        now = _resolve(self._new, entry)
        if now is None:
            return False
        return now == (match.node, before[1]) or not _is_by_id(self._new, entry, now)

    def _best(self, entry: Entry, node: str, name: str) -> object:
        if isinstance(entry, Selector):
            return selector_value(best_selector(self._new, node))
        if isinstance(entry, TargetEntry) or name:
            return entry_value(best_target(self._new, (node, name)))
        return entry_value(best_part(self._new, node))


def _is_untouched(binding: Binding, previous: PreviousModule, old: NodeIndex) -> bool:
    """Return whether a binding exposes exactly the inputs of the previous module."""
    public = {(to.node, to.input) for targets in previous.inputs.values() for to in targets}
    exposed = binding.expose
    if exposed is None:
        exposed = [] if binding.inputs else [PartEntry(text="*")]
    try:
        bound = {old.address(to) for entry in binding.inputs.values() for to in entry.to}
        shown = {address for part in exposed for address in old.addresses(part)}
        shown -= {address for part in binding.hide for address in old.addresses(part)}
    except SelectorError:
        return False
    return public == bound | (shown & set(unbound.public_inputs(old.graph)))


def _resolve(nodes: NodeIndex, entry: Entry) -> Address | None:
    """Return the node and the input that an entry names in a graph; "" for all of its inputs."""
    try:
        if isinstance(entry, Selector):
            return nodes.find(entry), ""
        if isinstance(entry, TargetEntry):
            return nodes.address(entry)
        return None if entry.text == "*" else nodes.node_and_input(entry)
    except SelectorError:
        return None


def _is_by_id(nodes: NodeIndex, entry: Entry, now: Address) -> bool:
    """Return whether an entry names a node only by its id."""
    selector = entry if isinstance(entry, Selector) else entry.node
    if not entry.text:
        return bool(selector.id)
    return entry.text in (now[0], f"{now[0]}.{now[1]}") and not nodes.has_name(now[0])


def _value(entry: Entry) -> object:
    return selector_value(entry) if isinstance(entry, Selector) else entry_value(entry)


def _with_values(text: str, values: Mapping[tuple[str | int, ...], object]) -> str:
    """Return TOML text with the values under some keys replaced."""
    import tomlkit
    from tomlkit.items import AoT

    document = tomlkit.parse(text)
    for keys, value in values.items():
        above: Any = None
        holder: Any = document
        for key in keys[:-1]:
            above, holder = holder, holder[key]
        if isinstance(holder, AoT):  # [[inputs.x.to]]: one of its tables cannot become a string
            plain = holder.unwrap()
            above[keys[-2]] = [value if n == keys[-1] else each for n, each in enumerate(plain)]
        else:
            holder[keys[-1]] = value
    return tomlkit.dumps(document)  # pyright: ignore[reportUnknownMemberType]
