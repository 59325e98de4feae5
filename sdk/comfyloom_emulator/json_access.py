"""Looking into JSON of unknown shape."""

from typing import Any


def as_object(value: Any) -> dict[str, Any] | None:
    """The value if it is a JSON object."""
    return value if isinstance(value, dict) else None  # pyright: ignore


def as_array(value: Any) -> list[Any] | None:
    """The value if it is a JSON array."""
    return value if isinstance(value, list) else None  # pyright: ignore
