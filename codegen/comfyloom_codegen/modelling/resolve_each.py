"""Resolve the entries of a binding one by one, and report the problems of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from comfyloom_codegen.bindings.selectors import SelectorError
from comfyloom_codegen.names import invalid_reason
from comfyloom_codegen.problems import ProblemLog

T = TypeVar("T")


class EntryError(ValueError):
    """An entry of a binding cannot be resolved."""


def resolve_each(
    problems: ProblemLog,
    part: str,
    entries: Iterable[tuple[str, Any]],
    resolve: Callable[[str, Any], T],
) -> tuple[T, ...]:
    """Return the resolved entries of one part of a binding; errors are added to `problems`.

    Args:
        problems: Collects the errors.
        part: The name of the part, such as `inputs`.
        entries: Each entry with its name, or with its position as `[0]`.
        resolve: Resolves one entry.
    """
    resolved: list[T] = []
    for name, entry in entries:
        try:
            resolved.append(resolve(name, entry))
        except (EntryError, SelectorError) as error:
            for line in str(error).split("\n"):
                key = f"{part}{name}" if name.startswith("[") else f"{part}.{name}"
                problems.error(line, field=key)
    return tuple(resolved)


def check_name(name: str, reserved: Iterable[str], *, has_method: bool = False) -> None:
    """Refuse an invalid public name.

    Raises:
        EntryError: The name is not an identifier, or is taken.
    """
    reason = invalid_reason(name, reserved)
    if has_method and name.startswith("with_"):
        reason = "begins with 'with_', as the methods do"
    if reason:
        raise EntryError(f"{name!r} {reason}")
