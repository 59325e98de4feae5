"""Lenient accessors for JSON that someone else wrote: a value of the wrong type reads as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

_LARGEST: Final = 1e300


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Return whether a value is a JSON array."""
    return isinstance(value, list)


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, {} for anything else."""
    return value if is_mapping(value) else {}


def items(value: object) -> list[Any]:
    """Return an array, [] for anything else."""
    return value if is_array(value) else []


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in an array."""
    return [item for item in items(value) if is_mapping(item)]


def text(value: object) -> str | None:
    """Return a string, None for anything else and for a string with a lone surrogate."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def number(value: object) -> float | None:
    """Return a finite number, None for anything else (NaN, infinity, true)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _LARGEST else None
