"""Pinned node schemas: what a server said of its nodes' inputs (`/object_info`)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom_codegen.problems import Findings
from comfyloom_codegen.reading import SCHEMA_FILE, parse_json, read_text
from comfyloom_codegen.shapes import as_object, is_array

MOST_CHOICES: Final = 24
"""Longer lists are what somebody installed, not what a node can do."""

_FILE_NAME: Final = re.compile(r"[/\\]|\.[A-Za-z][A-Za-z0-9]{1,11}$")


@attrs.frozen(kw_only=True)
class InputSchema:
    """What one input of a class of nodes takes.

    Attributes:
        type: ComfyUI's name of its type; `COMBO` for one out of a list.
        ge: Smallest number, None if there is no such limit.
        le: Largest number, None if there is no such limit.
        options: What a `COMBO` offers.
        upload: Whether it takes a picture that was uploaded.
    """

    type: str
    ge: float | None = None
    le: float | None = None
    options: tuple[object, ...] = ()
    upload: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The closed list of choices; () where files or installed things are listed."""
        texts = tuple(option for option in self.options if isinstance(option, str))
        few = 2 <= len(set(texts)) == len(self.options) <= MOST_CHOICES
        return texts if few and not any(map(_FILE_NAME.search, texts)) else ()


@attrs.frozen(kw_only=True)
class NodeSchema:
    """What one class of nodes takes, and whether its nodes are the ends of a workflow."""

    inputs: Mapping[str, InputSchema]
    required: tuple[str, ...] = ()
    is_output: bool = False


@attrs.define
class Schemas:
    """The schemas at hand, by class type; each is understood when it is first asked for."""

    _raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    _read: dict[str, NodeSchema | None] = attrs.field(factory=dict[str, "NodeSchema | None"])
    _texts: dict[str, str] = attrs.field(factory=dict[str, str])

    def node(self, class_type: str) -> NodeSchema | None:
        """Return the schema of a class of nodes, None if it is not at hand."""
        if class_type not in self._read:
            raw = as_object(self._raw.get(class_type))
            self._read[class_type] = _node(raw) if raw else None
        return self._read[class_type]

    def input(self, class_type: str, name: str) -> InputSchema | None:
        """Return the schema of one input, None if it is not at hand."""
        schema = self.node(class_type)
        return schema.inputs.get(name) if schema else None

    def text(self, class_types: Iterable[str]) -> str:
        """Return the schemas of some classes as one text, to tell whether they changed."""
        return "\n".join(map(self._text, sorted(set(class_types))))

    def pinned(self, class_types: Iterable[str]) -> str:
        """Return the schemas of some classes as the file that the package carries."""
        known = {name: self._raw[name] for name in sorted(set(class_types)) if name in self._raw}
        lines = (f"{json.dumps(name)}: {json.dumps(raw)}" for name, raw in known.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _text(self, class_type: str) -> str:
        if class_type not in self._texts:
            found = self._raw.get(class_type)
            self._texts[class_type] = json.dumps([class_type, found])
        return self._texts[class_type]


def classes_in(graph: str) -> set[str]:
    """Return the class types of a graph that was written earlier; none if it is none any more."""
    try:
        entries = as_object(json.loads(graph)).values()
    except ValueError:
        return set()
    found = (as_object(entry).get("class_type") for entry in entries)
    return {each for each in found if isinstance(each, str)}


def read_schemas(folder: Path, findings: Findings) -> Schemas:
    """Read the pinned schemas of a folder of workflows; there may be none."""
    path = folder / SCHEMA_FILE
    text = read_text(path, findings) if path.is_file() else None
    return Schemas({} if text is None else parse_json(text, findings) or {})


def _node(raw: dict[str, Any]) -> NodeSchema:
    groups = as_object(raw.get("input"))
    required = as_object(groups.get("required"))
    entries = {**as_object(groups.get("optional")), **required}
    return NodeSchema(
        inputs={name: _input(entry) for name, entry in entries.items()},
        required=tuple(required),
        is_output=raw.get("output_node") is True,
    )


def _input(entry: object) -> InputSchema:
    parts = entry if is_array(entry) else []
    kind: object = parts[0] if parts else ""
    facts = as_object(parts[1]) if len(parts) > 1 else {}
    # A list in the place of a type is the older way to write a combo.
    offered = kind if is_array(kind) else facts.get("options")
    takes_several = facts.get("multiselect") is True or "multi_select" in facts
    return InputSchema(
        type="COMBO" if is_array(kind) else str(kind),
        ge=_number(facts.get("min")),
        le=_number(facts.get("max")),
        options=tuple(offered) if is_array(offered) and not takes_several else (),
        upload=facts.get("image_upload") is True,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
