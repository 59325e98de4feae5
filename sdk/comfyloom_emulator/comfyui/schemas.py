"""The node types of a server: what /object_info shows and validation uses."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import attrs

from comfyloom_emulator.json_access import as_array

Schema = Mapping[str, Any]


@cache
def _packaged_schemas() -> dict[str, Any]:
    """Return the schemas that come with the emulator."""
    text = files("comfyloom_emulator").joinpath("schemas.json").read_text("utf-8")
    schemas: dict[str, Any] = json.loads(text)
    return schemas


@attrs.frozen
class DeclaredInput:
    """One declared input of a node type: its name, type (or list of choices) and options."""

    name: str
    kind: Any
    options: Mapping[str, Any]
    required: bool

    @property
    def config(self) -> list[Any]:
        """The pair that validation errors show."""
        return [self.kind, dict(self.options)]


def declared_inputs(schema: Schema) -> Iterator[DeclaredInput]:
    """Yield the required and optional inputs of a node type, in order."""
    for group in ("required", "optional"):
        for name, spec in schema.get("input", {}).get(group, {}).items():
            options: dict[str, Any] = spec[1] if len(spec) > 1 else {}
            yield DeclaredInput(name, spec[0], options, group == "required")


def merged_schemas(extra: Mapping[str, Any]) -> dict[str, Schema]:
    """Return the packaged schemas, extended or overridden by `extra`, with all keys filled in."""
    return {
        name: _complete(name, schema) for name, schema in {**_packaged_schemas(), **extra}.items()
    }


def _complete(name: str, schema: Schema) -> Schema:
    outputs = schema.get("output", [])
    return {
        "input": {"required": {}},
        "input_order": {},
        "output": outputs,
        "output_is_list": [False] * len(outputs),
        "output_name": outputs,
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "",
        "output_node": False,
        **schema,
    }


def with_current_files(schema: Schema, input_files: list[str]) -> Schema:
    """Return a schema whose file choices are the current input files."""
    groups = {
        group: {name: _with_files(spec, input_files) for name, spec in inputs.items()}
        for group, inputs in schema["input"].items()
    }
    return {**schema, "input": groups}


def _with_files(spec: Any, input_files: list[str]) -> Any:
    parts = as_array(spec)
    if parts is None or len(parts) < 2 or not parts[1].get("image_upload"):
        return spec
    return [input_files, *parts[1:]]
