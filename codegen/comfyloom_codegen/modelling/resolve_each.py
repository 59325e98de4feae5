"""Following the entries of a binding one by one, each with complaints of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from comfyloom_codegen.bindings.selectors import SelectorError
from comfyloom_codegen.names import illegal
from comfyloom_codegen.problems import Findings

T = TypeVar("T")


class EntryError(ValueError):
    """An entry of a binding cannot be followed."""


def follow_each(
    findings: Findings,
    part: str,
    entries: Iterable[tuple[str, Any]],
    follow: Callable[[str, Any], T],
) -> tuple[T, ...]:
    """Return what each entry of a part of a binding gives; what is wrong goes to `findings`."""
    followed: list[T] = []
    for name, entry in entries:
        try:
            followed.append(follow(name, entry))
        except (EntryError, SelectorError) as error:
            for line in str(error).split("\n"):
                place = f"{part}{name}" if name.startswith("[") else f"{part}.{name}"
                findings.error(line, field=place)
    return tuple(followed)


def check_name(name: str, reserved: Iterable[str], *, has_method: bool = False) -> None:
    """Refuse a public name that cannot be one.

    Raises:
        EntryError: It is no identifier, or taken.
    """
    reason = illegal(name, reserved)
    if has_method and name.startswith("with_"):
        reason = "begins as the methods do"
    if reason:
        raise EntryError(f"{name!r} {reason}")
