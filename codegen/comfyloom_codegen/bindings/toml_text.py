"""Selectors and values as TOML."""

from __future__ import annotations

from typing import Any

from comfyloom_codegen.bindings.entries import PartEntry, Selector, TargetEntry


def selector_value(selector: Selector) -> str | dict[str, str]:
    """Return the TOML value of a selector: one string, or a table."""
    if selector.text:
        return selector.text
    given = {"title": selector.title, "class": selector.class_, "id": selector.id}
    return {key: value for key, value in given.items() if value is not None}


def entry_value(entry: TargetEntry | PartEntry) -> str | dict[str, Any]:
    """Return the TOML value of an entry of `to`, `expose` or `hide`."""
    if entry.text:
        return entry.text
    node = {"node": selector_value(entry.node)}
    return {**node, "input": entry.input} if entry.input else node


def toml(value: object) -> str:
    """Return a string, number, flag, list or table as one line of TOML."""
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return table.as_string()
    return tomlkit.item(value).as_string()
