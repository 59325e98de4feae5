"""Find the node that a binding names by title, node type or id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from comfyloom._core.json import mapping
from comfyloom._core.suggestions import did_you_mean, nearest_words
from comfyloom._workflow.graph import Graph
from comfyloom_codegen.bindings.entries import PartEntry, Selector, TargetEntry

_MAX_CANDIDATES: Final = 8

Address: TypeAlias = tuple[str, str]
"""The id of a node and the name of one of its inputs."""


class SelectorError(ValueError):
    """A selector fits no node, or several."""


@attrs.frozen
class NodeIndex:
    """The nodes of a graph, indexed by title and node type."""

    graph: Graph
    _titles: dict[str, list[str]] = attrs.field(factory=dict[str, list[str]], init=False)
    _types: dict[str, list[str]] = attrs.field(factory=dict[str, list[str]], init=False)

    def __attrs_post_init__(self) -> None:
        """Index the nodes."""
        titles: defaultdict[str, list[str]] = defaultdict(list)
        types: defaultdict[str, list[str]] = defaultdict(list)
        for node, entry in self.graph.items():
            titles[title_of(entry)].append(node)
            types[entry["class_type"]].append(node)
        titles.pop("", None)
        self._titles.update(titles)
        self._types.update(types)

    def find(self, selector: Selector) -> str:
        """Return the id of the one node that a selector fits.

        Raises:
            SelectorError: It fits no node or several; the message lists candidates.
        """
        found = self._fits(selector)
        if len(found) == 1:
            return found[0]
        if found:
            raise SelectorError(f"{selector} fits {len(found)} nodes: {self.describe(found)}")
        raise SelectorError(f"no node fits {selector}{self._hint(selector)}")

    def address(self, entry: TargetEntry) -> Address:
        """Return the one node input that an entry of `to` names.

        Raises:
            SelectorError: It fits no node or input, or several; the message lists candidates.
        """
        if not entry.text:
            return self._input_of(self.find(entry.node), entry.input)
        found: set[Address] = set()
        reasons: list[str] = []
        for selector, name in _splits(entry.text):
            try:
                found.add(self._input_of(self.find(Selector(text=selector)), name))
            except SelectorError as error:
                reasons.append(str(error))
        if len(found) == 1:
            return found.pop()
        if found:
            inputs = ", ".join(f"{name!r} of node {node}" for node, name in sorted(found))
            raise SelectorError(f"{entry.text!r} fits several inputs: {inputs}")
        raise SelectorError(_most_specific(reasons) or f"{entry.text!r} is not 'NODE.input'")

    def addresses(self, entry: PartEntry) -> list[Address]:
        """Return the node inputs that an entry of `expose` or `hide` names.

        Raises:
            SelectorError: It fits no node or input, or several; the message lists candidates.
        """
        if entry.text == "*":
            return [(node, name) for node, each in self.graph.items() for name in each["inputs"]]
        node, name = self.node_and_input(entry)
        return [(node, name)] if name else [(node, name) for name in self.graph[node]["inputs"]]

    def node_and_input(self, entry: PartEntry) -> Address:
        """Return the node that an entry of `expose` or `hide` names, and the input or "" for all.

        Raises:
            SelectorError: It fits no node or input, or several; the message lists candidates.
        """
        if entry.input:
            return self._input_of(self.find(entry.node), entry.input)
        selector = Selector(text=entry.text) if entry.text else entry.node
        if entry.text and not self._fits(selector) and "." in entry.text:
            return self.address(TargetEntry(text=entry.text))
        return self.find(selector), ""

    def has_name(self, text: str) -> bool:
        """Return whether a string is the title or the type of a node."""
        return text in self._titles or text in self._types

    def describe(self, nodes: Iterable[str]) -> str:
        """Return a human-readable list of nodes: id, type, title."""
        return ", ".join(self._describe(node) for node in nodes)

    def _describe(self, node: str) -> str:
        entry = self.graph[node]
        title = title_of(entry)
        return f"{node} ({entry['class_type']}{f', {title!r}' if title else ''})"

    def _fits(self, selector: Selector) -> list[str]:
        if selector.text:
            own = [selector.text] if selector.text in self.graph else []
            titles = self._titles.get(selector.text, [])
            return titles or self._types.get(selector.text, []) or own
        fits = list(self.graph)
        if selector.title is not None:
            fits = self._titles.get(selector.title, [])
        if selector.class_ is not None:
            fits = [node for node in fits if self.graph[node]["class_type"] == selector.class_]
        if selector.id is not None:
            fits = [node for node in fits if node == selector.id]
        return fits

    def _hint(self, selector: Selector) -> str:
        near = [
            f"{name!r} = node {self.describe(nodes)}"
            for table in (self._titles, self._types, {node: [node] for node in self.graph})
            for sought in selector.names
            for name in nearest_words(sought, table, 2)
            for nodes in [table[name][:4]]
        ]
        if near:
            return f"; similar: {'; '.join(dict.fromkeys(near))}"
        more = (
            f" and {len(self.graph) - _MAX_CANDIDATES} more"
            if len(self.graph) > _MAX_CANDIDATES
            else ""
        )
        return f"; the nodes are {self.describe(list(self.graph)[:_MAX_CANDIDATES])}{more}"

    def _input_of(self, node: str, name: str) -> Address:
        inputs: dict[str, Any] = self.graph[node]["inputs"]
        if name in inputs:
            return node, name
        known = did_you_mean(name, inputs) or f"; it has {', '.join(map(repr, inputs)) or 'none'}"
        raise SelectorError(f"node {self._describe(node)} has no input {name!r}{known}")


def title_of(entry: Mapping[str, Any]) -> str:
    """Return the title of a node, "" if it has none."""
    title = mapping(entry.get("_meta")).get("title")
    return title if isinstance(title, str) else ""


def _splits(text: str) -> list[tuple[str, str]]:
    """Return every way to split a string at one of its dots; either side may contain dots."""
    dots = [index for index, letter in enumerate(text) if letter == "."]
    return [(text[:dot], text[dot + 1 :]) for dot in dots if text[:dot] and text[dot + 1 :]]


def _most_specific(reasons: list[str]) -> str:
    ranked = sorted(
        reasons, key=lambda reason: ("has no input" not in reason, "similar" not in reason)
    )
    return ranked[0] if ranked else ""
