"""Whether a workflow can run on a server: its graph compared with what the server has."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from comfyloom._core.json import mapping
from comfyloom._core.suggestions import did_you_mean, nearest
from comfyloom._workflow.graph import is_link_shaped
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import (
    COMBO,
    InputSchema,
    NodeSchema,
    Schemas,
    is_dynamic,
    pinned,
)

if TYPE_CHECKING:
    from comfyloom._workflow.workflow import Workflow

Kind: TypeAlias = Literal["node", "model", "choice", "input", "type", "range", "changed"]

_MODEL: Final = re.compile(
    r"\.(safetensors|ckpt|pt|pth|bin|gguf|onnx|sft|pkl|engine|patch)$", re.IGNORECASE
)
_ANY: Final = "*"
_UNTYPED: Final = {_ANY, COMBO}
_NUMBERS: Final = frozenset({"INT", "FLOAT"})
_LONGEST: Final = 60


@attrs.frozen(kw_only=True)
class Incompatibility:
    """One thing that differs.

    Attributes:
        kind: `node` (a node type is missing), `model` (a model file is missing), `choice` (a
            value that the server does not offer), `input` (one is missing, or not known there),
            `type` (a link or value of the wrong type), `range` (a number that is too small or too
            large), `changed` (differs from the server that the class was made against, and does
            no harm to this graph).
        node: The id of the node, "" for a node type.
        class_type: The node type.
        input: The name of the input, "" if it is about the whole node.
        message: Human-readable.
        advice: What to do about it, "" if nothing has to be done.
    """

    kind: Kind
    node: str
    class_type: str
    message: str
    input: str = ""
    advice: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether the graph cannot run because of it."""
        return self.kind != "changed"

    def __str__(self) -> str:
        place = f"node {self.node} ({self.class_type})" if self.node else self.class_type
        where = f"{place}, {self.input}" if self.input else place
        return f"{where}: {self.message}"


def compare_workflow(cls: type[Workflow[Any]], server: Schemas) -> list[Incompatibility]:
    """Return every way in which a workflow does not fit a server, whatever its inputs are."""
    package = sys.modules[cls.__module__].__package__ or ""
    set_for_each_run = frozenset(
        (target.node, target.input)
        for spec in cls.__workflow__.inputs
        if spec.required or spec.is_file
        for target in spec.targets
    )
    return compare(GraphView(cls.template_graph(), server), pinned(package), set_for_each_run)


def compare(
    view: GraphView, made_against: Schemas, free: frozenset[tuple[str, str]]
) -> list[Incompatibility]:
    """Return every way in which a graph does not fit a server, in the order of its nodes.

    Args:
        view: The workflow's graph, and what the server has.
        made_against: The schemas that the workflow's class was generated with.
        free: Inputs, as (node id, input name), whose value is set for each run.
    """
    found: list[Incompatibility] = []
    for node_id, raw in view.graph.items():
        entry = mapping(raw)
        class_type = str(entry.get("class_type"))
        schema = view.schema_of(node_id)
        if schema is None:
            found.append(_missing(node_id, class_type, view.schemas, made_against))
            continue
        node = _Node(node_id, class_type, schema, view, free)
        given = mapping(entry.get("inputs"))
        found += node.incompatibilities(given)
        found += _changes(node, made_against.node(class_type), given)
    return found


def _missing(
    node_id: str, class_type: str, live: Schemas, made_against: Schemas
) -> Incompatibility:
    before = made_against.node(class_type)
    pack = (before.pack if before else "") or _packs().get(class_type, "")
    near = nearest(class_type, live.names, 0.8)
    advice = f"install the pack {pack} on the machine" if pack else "install its node pack"
    if near is not None:
        advice += f"; it has {near}"
    return Incompatibility(
        kind="node",
        node=node_id,
        class_type=class_type,
        message="the server does not have this node type",
        advice=advice,
    )


@functools.cache
def _packs() -> Mapping[str, str]:
    source = (
        importlib.resources.files("comfyloom._workflow").joinpath("packs.json").read_text("utf-8")
    )
    packs = cast("Mapping[str, list[str]]", json.loads(source)["packs"])
    return {name: pack for pack, names in packs.items() for name in names}


@attrs.frozen
class _Node:
    """One node of the graph beside the server's schema of its type."""

    id: str
    class_type: str
    schema: NodeSchema
    view: GraphView
    free: frozenset[tuple[str, str]]

    def incompatibilities(self, given: Mapping[str, Any]) -> Iterator[Incompatibility]:
        for name, value in given.items():
            wanted = self.schema.inputs.get(name)
            if wanted is None:
                yield self.find(
                    "changed",
                    name,
                    "the server does not know this input and ignores it: harmless",
                )
            elif is_link_shaped(value):
                yield from self._link(name, wanted, value)
            elif not wanted.upload and (self.id, name) not in self.free:
                yield from self._value(name, wanted, value)
        for name, wanted in self.schema.inputs.items():
            if wanted.is_required and name not in given and not wanted.is_dynamic:
                advice = "export the workflow again, and run comfyloom codegen"
                yield self.find("input", name, "the server requires this input", advice)

    def find(self, kind: Kind, name: str, message: str, advice: str = "") -> Incompatibility:
        return Incompatibility(
            kind=kind,
            node=self.id,
            class_type=self.class_type,
            input=name,
            message=message,
            advice=advice,
        )

    def _link(self, name: str, wanted: InputSchema, value: list[Any]) -> Iterator[Incompatibility]:
        schema = self.view.schema_of(value[0]) if value[0] in self.view.graph else None
        if schema is None:  # reported already, or a link to a missing node
            return
        slot = int(value[1])
        if slot >= len(schema.outputs) and _ANY in schema.outputs:
            return  # some packs give more outputs of any type than they declare
        if not 0 <= slot < len(schema.outputs):
            count = len(schema.outputs)
            text = f"node {value[0]} has no output {slot}: it has {count} (counted from 0)"
            yield self.find("type", name, text)
        elif not _accepts(wanted.type, schema.outputs[slot]):
            text = f"it takes {wanted.type}, but node {value[0]} gives {schema.outputs[slot]}"
            yield self.find("type", name, text)

    def _value(self, name: str, wanted: InputSchema, value: object) -> Iterator[Incompatibility]:
        if "__value__" in mapping(value):  # a list that is not a link, or anything else
            value = mapping(value)["__value__"]
        if wanted.options is not None:
            if value not in wanted.options:
                yield self._choice(name, wanted.options, value)
        elif wanted.type in _NUMBERS:
            number = _as_number(wanted.type, value)
            if number is None:
                text = f"{_shown(value)} is not a valid {wanted.type}"
                yield self.find("type", name, text)
            elif wanted.ge is not None and number < wanted.ge:
                yield self.find("range", name, f"{_shown(value)} is less than {wanted.ge}")
            elif wanted.le is not None and number > wanted.le:
                yield self.find("range", name, f"{_shown(value)} is more than {wanted.le}")

    def _choice(self, name: str, choices: tuple[object, ...], value: object) -> Incompatibility:
        texts = [str(choice) for choice in choices]
        hint = did_you_mean(str(value), texts)
        if isinstance(value, str) and _MODEL.search(value):
            advice = "put the model file on the server, or choose another in the workflow"
            return self.find("model", name, f"there is no model {value!r}{hint}", advice)
        offered = ", ".join(texts[:5]) + (", …" if len(texts) > 5 else "")
        return self.find(
            "choice", name, f"{_shown(value)} is not one of {offered or '(nothing)'}{hint}"
        )


def _as_number(kind: str, value: object) -> float | None:
    """Return a value converted to a number as ComfyUI does it (`int(…)`), None if it cannot."""
    if not isinstance(value, int | float | str):
        return None
    try:
        return int(value) if kind == "INT" else float(value)
    except (ValueError, OverflowError):
        return None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # more digits than Python agrees to print
        return "the number"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _accepts(wanted: str, given: str) -> bool:
    """Return whether an input takes what an output gives; `A, B` stands for either."""
    takes, gives = _types(wanted), _types(given)
    if takes & _UNTYPED or gives & _UNTYPED or is_dynamic(wanted) or is_dynamic(given):
        return True
    return not takes.isdisjoint(gives)


def _types(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


def _changes(
    node: _Node, before: NodeSchema | None, given: Mapping[str, Any]
) -> Iterator[Incompatibility]:
    """Yield what has changed since the workflow's class was made, and does not stop this graph."""
    if before is None:
        return
    for name, old in before.inputs.items():
        new = node.schema.inputs.get(name)
        if new is None:
            if name not in given:  # else it was reported already
                yield node.find("changed", name, "this input is gone")
        elif new.type != old.type:
            yield node.find("changed", name, f"its type was {old.type} and is {new.type}")
        elif (new.ge, new.le) != (old.ge, old.le):
            text = f"its range was {_range(old)} and is {_range(new)}"
            yield node.find("changed", name, text)
    for name in node.schema.inputs:
        if name not in before.inputs and not node.schema.inputs[name].is_required:
            yield node.find("changed", name, "this input is new, and may be left out")
    if node.schema.outputs != before.outputs:
        text = f"its outputs were {_list(before.outputs)} and are {_list(node.schema.outputs)}"
        yield node.find("changed", "", text)


def _range(schema: InputSchema) -> str:
    least = "" if schema.ge is None else f"{schema.ge:g}"
    most = "" if schema.le is None else f"{schema.le:g}"
    return f"{least}…{most}"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
