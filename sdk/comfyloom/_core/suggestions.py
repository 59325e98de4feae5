"""Suggestions for misspelt words."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word most similar to `word`, None if there is none.

    Args:
        word: What was given.
        known: What is valid.
        cutoff: Least similarity, 0 to 1 (`difflib`'s ratio).
    """
    return next(iter(nearest_words(word, known, 1, cutoff)), None)


def nearest_words(word: str, known: Iterable[str], most: int, cutoff: float = 0.6) -> list[str]:
    """Return up to `most` known words similar to `word`, the nearest first."""
    import difflib  # slow to import; only needed for an error

    return difflib.get_close_matches(word, list(known), most, cutoff)


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `; did you mean '…'?` for a message, "" if no known word is similar."""
    near = nearest(word, known, cutoff)
    return "" if near is None else f"; did you mean {near!r}?"
