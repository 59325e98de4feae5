"""How a binding names a node best: by what stays when a workflow is exported again."""

from __future__ import annotations

from comfyloom_codegen.bindings.entries import PartEntry, Selector, TargetEntry
from comfyloom_codegen.bindings.selectors import Address, Nodes, SelectorError, title_of


def best_selector(nodes: Nodes, node: str) -> Selector:
    """Return the selector that fits just this node: its title, its class, both, or its id."""
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


def best_target(nodes: Nodes, address: Address) -> TargetEntry:
    """Return the entry that names just this node input, as one text where that is not ambiguous."""
    selector = best_selector(nodes, address[0])
    if selector.text:
        entry = TargetEntry(text=f"{selector.text}.{address[1]}")
        try:
            if nodes.address(entry) == address:
                return entry
        except SelectorError:
            pass
    return TargetEntry(node=selector, input=address[1])


def best_part(nodes: Nodes, node: str) -> PartEntry:
    """Return the entry that names all inputs of just this node."""
    selector = best_selector(nodes, node)
    return PartEntry(text=selector.text) if selector.text else PartEntry(node=selector)


def _fits(nodes: Nodes, selector: Selector, node: str) -> bool:
    try:
        return nodes.find(selector) == node
    except SelectorError:
        return False


def is_writable(text: str) -> bool:
    """Return whether a binding file can hold a text: half of a pair of code units is no letter."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _writable(text: str) -> str:
    return text if text != "*" and is_writable(text) else ""
