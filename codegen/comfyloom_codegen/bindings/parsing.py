"""Parse binding files: from TOML to entries, each error on one line with its key."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, get_args

import attrs

from comfyloom._core.json import is_mapping
from comfyloom._core.suggestions import did_you_mean
from comfyloom._workflow.input_spec import Kind
from comfyloom._workflow.outputs import OutputKind
from comfyloom_codegen.bindings.entries import (
    Binding,
    InputEntry,
    PartEntry,
    ResultEntry,
    Selector,
    StageEntry,
    TargetEntry,
)
from comfyloom_codegen.problems import ProblemLog

if TYPE_CHECKING:
    import cattrs

Hook: TypeAlias = Callable[[Any, Any], Any]

_TABLE: Final = "expected a table"


def parse_binding(text: str, file: str, problems: ProblemLog) -> Binding | None:
    """Return the binding in TOML text, None if it is invalid; errors are added to `problems`."""
    import tomllib

    from cattrs import BaseValidationError, transform_error

    try:
        return _converter().structure(tomllib.loads(text), Binding)
    except tomllib.TOMLDecodeError as error:
        problems.error(str(error), file=file)
    except BaseValidationError as error:
        for line in transform_error(error, format_exception=_format_error):
            reason, _, path = line.rpartition(" @ ")
            problems.error(reason, file=file, field=_dotted_path(path))
    except (TypeError, ValueError, RecursionError) as error:
        problems.error(f"cannot be read as TOML: {error}", file=file)
    return None


def _dotted_path(path: str) -> str:
    plain = path.removeprefix("$").lstrip(".").replace("['", ".").replace("']", "")
    return ".".join(part.removesuffix("_") for part in plain.split("."))


def _format_error(error: BaseException, _: type[Any] | None) -> str:
    from cattrs.errors import ForbiddenExtraKeysError

    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name.removesuffix("_") for field in attrs.fields(cast("Any", error.cl))]
        return "; ".join(
            f"unknown key {key!r}{did_you_mean(key, known) or '; known keys: ' + ', '.join(known)}"
            for key in sorted(error.extra_fields)
        )
    if isinstance(error, KeyError):
        return "this key is missing"
    return str(error)


@functools.cache
def _converter() -> cattrs.Converter:
    from cattrs import Converter, cols

    converter = Converter(forbid_extra_keys=True)
    for kind, expected in ((str, "a string"), (bool, "true or false")):
        converter.register_structure_hook(kind, _exact_type(kind, f"expected {expected}"))
    converter.register_structure_hook(float, _number)
    for choices in (Kind, OutputKind):
        converter.register_structure_hook_func(_equals(choices), _one_of(get_args(choices)))
    for origin, factory in ((list, "list_structure_factory"), (dict, "mapping_structure_factory")):
        hook = _container(origin, getattr(cols, factory))
        converter.register_structure_hook_factory(_has_origin(origin), hook)
    for cls in (Selector, TargetEntry, PartEntry, InputEntry, ResultEntry, StageEntry, Binding):
        converter.register_structure_hook(cls, _table_hook(cls, converter))
    return converter


def _exact_type(kind: type[Any], message: str) -> Hook:
    # By default, cattrs turns a number into a string, and a string into a flag.
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(message)
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("expected a number")
    return cast("float", value)


def _equals(wanted: Any) -> Callable[[Any], bool]:
    return lambda kind: kind == wanted


def _has_origin(wanted: type[Any]) -> Callable[[Any], bool]:
    return lambda kind: getattr(kind, "__origin__", None) is wanted


def _one_of(choices: tuple[str, ...]) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if value not in choices:
            known = did_you_mean(str(value), choices)
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}{known}")
        return value

    return structure


def _container(kind: type[Any], factory: Any) -> Callable[[Any, cattrs.Converter], Hook]:
    def make(cls: Any, converter: cattrs.Converter) -> Hook:
        inner: Hook = factory(cls, converter)

        def structure(value: Any, target: Any) -> Any:
            if not isinstance(value, kind):
                raise TypeError("expected a list" if kind is list else _TABLE)
            return inner(value, target)

        return structure

    return make


def _table_hook(cls: type[Any], converter: cattrs.Converter) -> Hook:
    from cattrs.gen import make_dict_structure_fn, override

    names = {field.name for field in attrs.fields(cls)}
    special: dict[str, Any] = {"class_": override(rename="class"), "text": override(omit=True)}
    inner: Hook = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        **{name: value for name, value in special.items() if name in names},
    )

    def structure(value: Any, target: Any) -> Any:
        if isinstance(value, str) and value and "text" in names:
            return cls(text=value)
        if not is_mapping(value):
            raise TypeError("expected a string or a table" if "text" in names else _TABLE)
        return _check_keys(inner(value, target))

    return structure


def _check_keys(entry: Any) -> Any:
    if isinstance(entry, Selector) and not entry.names:
        raise ValueError("one of title, class, id is required")
    if isinstance(entry, TargetEntry) and not (entry.node.names and entry.input):
        raise ValueError("both node and input are required")
    if isinstance(entry, PartEntry) and not entry.node.names:
        raise ValueError("node is required")
    return entry
