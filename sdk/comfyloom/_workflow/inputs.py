r"""The inputs of a workflow: one function per kind of value, called by generated classes.

Each function declares one public field: the node inputs that its value goes to, written
`"<node id>.<input name>"` (a dot inside an id is written `\.`), and the values that are valid.
A field without `default` must be set before the workflow can run.
"""

from __future__ import annotations

from typing import Any, cast, overload

import attrs

from comfyloom._workflow.files import FILE_KINDS, FileSource, ImageSource
from comfyloom._workflow.input_spec import METADATA, MISSING, InputSpec, Kind, Target, Unset, copied
from comfyloom._workflow.picture_lists import ImageSources, frozen, key_of


def reduced(target: str, modulo: int) -> Target:
    """Return a target that receives the seed modulo `modulo`."""
    return attrs.evolve(Target.parse(target), modulo=modulo)


@overload
def image(*targets: str) -> ImageSource: ...
@overload
def image(*targets: str, default: None) -> ImageSource | None: ...
def image(*targets: str, default: Unset | None = MISSING) -> ImageSource | None:
    """An image, uploaded when the workflow runs; None keeps the file that the graph names."""
    return cast("ImageSource | None", _field("image", targets, default))


@overload
def mask(*targets: str) -> ImageSource: ...
@overload
def mask(*targets: str, default: None) -> ImageSource | None: ...
def mask(*targets: str, default: Unset | None = MISSING) -> ImageSource | None:
    """A mask, given as an image; None keeps the file that the graph names."""
    return cast("ImageSource | None", _field("mask", targets, default))


@overload
def images(*targets: str) -> ImageSources: ...
@overload
def images(*targets: str, default: None) -> ImageSources | None: ...
def images(*targets: str, default: Unset | None = MISSING) -> ImageSources | None:
    """As many images as targets, one for each; None keeps the files that the graph names."""
    return cast("ImageSources | None", _field("images", targets, default))


@overload
def folder(*targets: str) -> ImageSources: ...
@overload
def folder(*targets: str, default: None) -> ImageSources | None: ...
def folder(*targets: str, default: Unset | None = MISSING) -> ImageSources | None:
    """Images for a node that reads a folder; None keeps the folder that the graph names."""
    return cast("ImageSources | None", _field("folder", targets, default))


@overload
def audio(*targets: str) -> FileSource: ...
@overload
def audio(*targets: str, default: None) -> FileSource | None: ...
def audio(*targets: str, default: Unset | None = MISSING) -> FileSource | None:
    """An audio file, uploaded when the workflow runs; None keeps the file that the graph names."""
    return cast("FileSource | None", _field("audio", targets, default))


@overload
def video(*targets: str) -> FileSource: ...
@overload
def video(*targets: str, default: None) -> FileSource | None: ...
def video(*targets: str, default: Unset | None = MISSING) -> FileSource | None:
    """A video, uploaded when the workflow runs; None keeps the file that the graph names."""
    return cast("FileSource | None", _field("video", targets, default))


@overload
def file(*targets: str) -> FileSource: ...
@overload
def file(*targets: str, default: None) -> FileSource | None: ...
def file(*targets: str, default: Unset | None = MISSING) -> FileSource | None:
    """Any file, uploaded when the workflow runs; None keeps the file that the graph names."""
    return cast("FileSource | None", _field("file", targets, default))


def text(*targets: str, default: str | Unset = MISSING) -> str:
    """A string; if it is required, it must not be blank."""
    return cast("str", _field("text", targets, default))


def seed(
    *targets: str | Target, default: None = None, ge: int = 0, le: int = 2**64 - 1
) -> int | None:
    """A seed; None draws a new one for each run."""
    return cast("int | None", _field("seed", targets, default, ge=ge, le=le))


def number(
    *targets: str,
    default: float | Unset = MISSING,
    ge: float | None = None,
    le: float | None = None,
) -> float:
    """A number within a range."""
    return cast("float", _field("number", targets, default, ge=ge, le=le))


def integer(
    *targets: str, default: int | Unset = MISSING, ge: int | None = None, le: int | None = None
) -> int:
    """A whole number within a range."""
    return cast("int", _field("integer", targets, default, ge=ge, le=le))


def flag(*targets: str, default: bool | Unset = MISSING) -> bool:
    """True or False."""
    return cast("bool", _field("flag", targets, default))


def choice(*targets: str, choices: tuple[str, ...], default: str | Unset = MISSING) -> Any:
    """One of a fixed list of strings."""
    return _field("choice", targets, default, choices=choices)


def value(*targets: str, default: Any = MISSING) -> Any:
    """Any value that JSON can represent, passed on unchanged."""
    return _field("value", targets, default)


def _field(
    kind: Kind,
    targets: tuple[str | Target, ...],
    default: object = MISSING,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] = (),
) -> object:
    spec = InputSpec(
        kind=kind,
        targets=tuple(Target.parse(to) if isinstance(to, str) else to for to in targets),
        required=default is MISSING,
        ge=ge,
        le=le,
        choices=choices,
    )
    # A mutable value is copied, so that it is shared neither with the caller nor with the class.
    converter = {"value": copied, "images": frozen, "folder": frozen}.get(kind)
    return attrs.field(
        default=default,
        converter=converter,
        eq=key_of if kind in FILE_KINDS else True,
        metadata={METADATA: spec},
        repr=_short_repr,
    )


def _short_repr(value: object) -> str:
    if isinstance(value, tuple):
        images = cast("tuple[object, ...]", value)
        return f"({', '.join(map(_short_repr, images))})"
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)
