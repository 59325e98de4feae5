"""Reading JSON that somebody else wrote: what is not of the expected kind is as if not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

_ENDLESS: Final = 1e300


def is_mapping(value: object) -> bool:
    """Return whether a value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> bool:
    """Return whether a value is an array."""
    return isinstance(value, list)


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, {} for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Return an array, [] for anything else."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in an array."""
    found = items(value)
    return [mapping(item) for item in found if is_mapping(item)]


def text(value: object) -> str | None:
    """Return a text, None for anything else, half of a surrogate pair included."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def number(value: object) -> float | None:
    """Return a number that can be reckoned with, None for anything else: for NaN, say."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _ENDLESS else None
