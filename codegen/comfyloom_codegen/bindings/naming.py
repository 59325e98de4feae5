"""The most stable selector of a node: one that survives a new export if possible."""

from __future__ import annotations

from comfyloom_codegen.bindings.entries import PartEntry, Selector, TargetEntry
from comfyloom_codegen.bindings.selectors import Address, NodeIndex, SelectorError, title_of


def best_selector(nodes: NodeIndex, node: str) -> Selector:
    """Return a selector that fits only this node: its title, its type, both, or its id."""
    entry = nodes.graph[node]
    title, class_type = _writable(title_of(entry)), _writable(entry["class_type"])
    candidates = (
        Selector(text=title),
        Selector(text=class_type),
        Selector(title=title or None, class_=class_type or None),
        Selector(text=node),
    )
    fits = (each for each in candidates if each.names and _fits(nodes, each, node))
    return next(fits, Selector(id=node))


def best_target(nodes: NodeIndex, address: Address) -> TargetEntry:
    """Return an entry that names only this node input, as one string if that is unambiguous."""
    selector = best_selector(nodes, address[0])
    if selector.text:
        entry = TargetEntry(text=f"{selector.text}.{address[1]}")
        try:
            if nodes.address(entry) == address:
                return entry
        except SelectorError:
            pass
    return TargetEntry(node=selector, input=address[1])


def best_part(nodes: NodeIndex, node: str) -> PartEntry:
    """Return an entry that names all inputs of only this node."""
    selector = best_selector(nodes, node)
    return PartEntry(text=selector.text) if selector.text else PartEntry(node=selector)


def _fits(nodes: NodeIndex, selector: Selector, node: str) -> bool:
    try:
        return nodes.find(selector) == node
    except SelectorError:
        return False


def is_writable(text: str) -> bool:
    """Return whether a binding file can hold a string; a lone surrogate cannot be encoded."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _writable(text: str) -> str:
    return text if text != "*" and is_writable(text) else ""
