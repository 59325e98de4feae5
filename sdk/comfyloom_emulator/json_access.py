"""Lenient accessors for JSON of unknown shape: a value of the wrong type reads as absent."""

from typing import Any


def as_object(value: Any) -> dict[str, Any] | None:
    """Return the value if it is a JSON object, else None."""
    return value if isinstance(value, dict) else None  # pyright: ignore


def as_array(value: Any) -> list[Any] | None:
    """Return the value if it is a JSON array, else None."""
    return value if isinstance(value, list) else None  # pyright: ignore
