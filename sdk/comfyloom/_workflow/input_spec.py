"""The declaration of one public field of a workflow: where its value goes, which are valid."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from comfyloom._core.suggestions import nearest
from comfyloom._workflow.files import (
    FILE_KINDS,
    FileKind,
    ListKind,
    is_file_source,
    is_image_source,
)
from comfyloom._workflow.picture_lists import problem_of
from comfyloom.errors import InputProblem

Kind: TypeAlias = Literal[
    FileKind, ListKind, "text", "seed", "number", "integer", "flag", "choice", "value"
]

METADATA: Final = "comfyloom.input"
# None keeps the value of the workflow file: a file name on the server, or a seed.
_MAY_BE_NONE: Final = FILE_KINDS | {"seed"}
# Larger numbers are not printed: Python refuses to convert very long ones to text.
LARGE: Final = 10**30
_DOT: Final = re.compile(r"(?<!\\)\.")


class Unset:
    """The type of the sentinels `UNSET` and `MISSING`; copying and pickling keep their identity."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


UNSET: Final = Unset("UNSET")
"""A required value that a chain of `with_…()` calls has not set yet."""
MISSING: Final = Unset("MISSING")
"""A required value that the constructor was not given."""


@attrs.frozen
class Target:
    """One input of one node; `modulo` limits a seed to the range that the input accepts."""

    node: str
    input: str
    modulo: int | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        r"""Return the target in `"<id>.<input>"`; the first dot that is not escaped separates."""
        node, name = _DOT.split(text, maxsplit=1)
        return cls(node.replace(r"\.", "."), name)

    def value(self, value: Any) -> Any:
        """Return a value as this input accepts it."""
        return value if self.modulo is None else value % self.modulo


@attrs.frozen(kw_only=True)
class InputSpec:
    """The declaration of one public field of a workflow.

    Attributes:
        kind: The kind of value.
        targets: The node inputs that the value goes to.
        required: Whether a caller must set it.
        ge: The smallest valid number, None if there is no limit.
        le: The largest valid number, None if there is no limit.
        choices: The valid strings of a `choice`.
        name: The name of the field.
    """

    kind: Kind
    targets: tuple[Target, ...]
    required: bool = False
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()
    name: str = ""

    @property
    def node(self) -> str:
        """The id of the first node that the value goes to."""
        return self.targets[0].node

    def problem(self, value: object) -> InputProblem | None:
        """Return what is wrong with a value, None if it is valid."""
        if value is UNSET:
            return None
        if value is MISSING:
            return self.make_problem("a value is required")
        if value is None and not self.required and self.kind in _MAY_BE_NONE:
            return None
        reason = _CHECKS[self.kind](self, value)
        if reason is None:
            return None
        choice = nearest(str(value), self.choices) if self.choices else None
        return self.make_problem(reason, choice)

    def json_value(self, value: Any) -> Any:
        """Return a value for JSON: numbers of array libraries become Python numbers."""
        if self.kind in ("integer", "seed"):
            return int(value)
        if self.kind == "number" and not isinstance(value, int):
            return float(value)
        return copied(value) if self.kind == "value" else value

    def make_problem(self, reason: str, choice: str | None = None) -> InputProblem:
        """Return a problem with this field.

        Args:
            reason: What is wrong.
            choice: The valid choice closest to the value, if there is one.
        """
        return InputProblem(field=self.name, node=self.node, reason=reason, nearest=choice)

    @property
    def is_file(self) -> bool:
        """Whether the value is a file, or several, that must be uploaded."""
        return self.kind in FILE_KINDS

    @property
    def is_list(self) -> bool:
        """Whether the value is several files."""
        return self.kind in get_args(ListKind)

    @property
    def count(self) -> int | None:
        """How many files there must be, None for any number."""
        return len(self.targets) if self.kind == "images" else None

    @property
    def range(self) -> str:
        """The human-readable range: "0 to 100", "at least 1", or ""."""
        if self.ge is not None and self.le is not None:
            return f"{self.ge} to {self.le}"
        if self.ge is not None:
            return f"at least {self.ge}"
        return f"at most {self.le}" if self.le is not None else ""


def copied(value: Any) -> Any:
    """Return a deep copy."""
    from copy import deepcopy

    return deepcopy(value)


# --- the check of each kind ----------------------------------------------------------------------


def _check_image(_: InputSpec, value: object) -> str | None:
    if is_image_source(value):
        return None
    known = "a path, bytes, an open file, a Pillow image or a numpy array"
    return f"expected {known}, got {_type_name(value)}"


def _check_images(spec: InputSpec, value: object) -> str | None:
    return problem_of(value, spec.count)


def _check_file(_: InputSpec, value: object) -> str | None:
    if is_file_source(value):
        return None
    return f"expected a path, bytes or an open file, got {_type_name(value)}"


def _check_text(spec: InputSpec, value: object) -> str | None:
    if not isinstance(value, str):
        return f"expected a string, got {_type_name(value)}"
    if not spec.required:  # any text of the workflow file must be accepted as a default
        return None
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "it contains a lone surrogate, which is not valid Unicode"
    return None if value.strip() else "it must not be blank"


def _check_number(spec: InputSpec, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | numbers.Real):
        return f"expected a number, got {_type_name(value)}"
    if not isinstance(value, int) and not math.isfinite(value):
        return f"expected a finite number, got {value}"
    return _check_range(spec, value)


def _check_integer(spec: InputSpec, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | numbers.Integral):
        return f"expected a whole number, got {_type_name(value)}"
    return _check_range(spec, value)


def _check_seed(spec: InputSpec, value: object) -> str | None:
    reason = _check_integer(spec, value)
    if reason is not None and value == -1:
        return f"{reason}; elsewhere -1 means a random seed: here, leave it out"
    return reason


def _check_range(spec: InputSpec, value: Any) -> str | None:
    is_low = spec.ge is not None and value < spec.ge
    is_high = spec.le is not None and value > spec.le
    shown = str(value) if abs(value) < LARGE else "the number"
    return f"{shown} is out of range ({spec.range})" if is_low or is_high else None


def _check_flag(_: InputSpec, value: object) -> str | None:
    return None if isinstance(value, bool) else f"expected True or False, got {_type_name(value)}"


def _check_choice(spec: InputSpec, value: object) -> str | None:
    if value in spec.choices:
        return None
    return f"{value!r} is not one of {', '.join(map(repr, spec.choices))}"


def _check_value(_: InputSpec, value: object) -> str | None:
    import json

    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"expected a value that JSON can represent ({error})"
    return None


def _type_name(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return "None" if value is None else type(value).__name__


_CHECKS: Final[Mapping[Kind, Callable[[InputSpec, object], str | None]]] = {
    "image": _check_image,
    "mask": _check_image,
    "images": _check_images,
    "folder": _check_images,
    "audio": _check_file,
    "video": _check_file,
    "file": _check_file,
    "text": _check_text,
    "seed": _check_seed,
    "number": _check_number,
    "integer": _check_integer,
    "flag": _check_flag,
    "choice": _check_choice,
    "value": _check_value,
}
