"""The fields of a workflow as options of a command."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args

import click

from comfyloom._workflow.files import FileKind, ListKind
from comfyloom._workflow.input_spec import InputSpec, Kind
from comfyloom._workflow.workflow import Workflow

# Keeps the fields of a workflow apart from the command's own options with the same name.
_PREFIX: Final = "field_"
_RESERVED: Final = frozenset(
    {
        "out",
        "target",
        "server-type",
        "launch",
        "no-launch",
        "credentials",
        "timeout",
        "only",
        "keep-all",
        "fresh",
        "front",
        "json",
        "help",
    }
)
_TYPES: Final[Mapping[Kind, click.ParamType[Any]]] = {
    **dict.fromkeys((*get_args(FileKind), *get_args(ListKind)), click.Path()),
    "text": click.STRING,
    "seed": click.INT,
    "number": click.FLOAT,
    "integer": click.INT,
}


class JsonType(click.ParamType[Any]):
    """A value of any type, written as JSON."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the value that a string describes."""
        try:
            return json.loads(value)
        except ValueError as error:
            return self.fail(f"{value!r} is not JSON: {error}", param, ctx)


def option(workflow: type[Workflow[Any]], spec: InputSpec) -> click.Option:
    """Return the option that sets a field of a workflow."""
    name = spec.name.rstrip("_").replace("_", "-")
    if name in _RESERVED:
        name = f"{name}-value"
    switches = f"--{name}/--no-{name}" if spec.kind == "flag" else f"--{name}"
    return click.Option(
        [switches, f"{_PREFIX}{spec.name}"],
        type=click.BOOL if spec.kind == "flag" else _type(spec),
        required=spec.required,
        multiple=spec.is_list,
        help=_help(workflow, spec),
    )


def build(workflow: type[Workflow[Any]], given: Mapping[str, Any]) -> Workflow[Any]:
    """Return the workflow with the values of a command line; None and () count as not given.

    Raises:
        InputValueError: Values are missing, of the wrong type or out of range.
    """
    values = {name.removeprefix(_PREFIX): _given(value) for name, value in given.items()}
    return workflow(**{name: value for name, value in values.items() if value is not None})


def _given(value: Any) -> object:
    """Return a value; one folder, given where several files may be, stands for its images."""
    if not isinstance(value, tuple):
        return value
    paths = cast("tuple[str, ...]", value)
    is_folder = len(paths) == 1 and Path(paths[0]).is_dir()
    return (paths[0] if is_folder else paths) or None


def _type(spec: InputSpec) -> click.ParamType[Any]:
    if spec.kind == "choice":
        return click.Choice(spec.choices)
    return _TYPES.get(spec.kind) or JsonType()


def _help(workflow: type[Workflow[Any]], spec: InputSpec) -> str:
    """Return the help of a field: generated code keeps it as the docstring of its `with_…()`."""
    text = inspect.getdoc(getattr(workflow, f"with_{spec.name}", None)) or ""
    return " ".join(text.split())
