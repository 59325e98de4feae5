"""What a ComfyUI says of its node classes (`/object_info`), read leniently.

Servers of other versions write it in other ways: a list in the place of a type and `COMBO` with
`options` mean the same, and a pack may put anything there.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from comfyloom._core.json import is_array, is_mapping, items, mapping, number, text

PINNED: Final = "object_info.json"
"""The schemas that a generated package carries: those of the server it was made against."""
COMBO: Final = "COMBO"
# Inputs whose list is what the server has in a folder for uploads.
_UPLOADS: Final = ("image", "video", "audio", "file")
MOST_LISTED: Final = 100
"""So many things can be a list of what a node can do; more are always what somebody installed."""
_FILE_NAME: Final = re.compile(r"[/\\]|\.[A-Za-z][A-Za-z0-9]{1,11}$")


def is_dynamic(kind: str) -> bool:
    """Return whether a type is none of a value: ComfyUI makes inputs of it as a graph needs them.

    So it is with `COMFY_AUTOGROW_V3`, `COMFY_DYNAMICCOMBO_V3` and `COMFY_MATCHTYPE_V3`.
    """
    return kind.startswith("COMFY_")


def is_listing(options: Sequence[object]) -> bool:
    """Return whether options are what one machine has: files, or more than a node can do."""
    texts = [option for option in options if isinstance(option, str)]
    is_long = len(options) > MOST_LISTED
    # One thing is what is always there, beside the files that the machine has none of.
    return len(options) < 2 or is_long or any(map(_FILE_NAME.search, texts))


@attrs.frozen(kw_only=True)
class InputSchema:
    """One input of a class of nodes.

    Attributes:
        type: ComfyUI's name of its type; `COMBO` for one out of a list.
        is_required: Whether a node needs it.
        options: What a `COMBO` offers; None where the server does not list it.
        upload: The kind of file that it takes when one is uploaded (`image`, `video`, `audio`,
            `file`), "" if it takes none.
        ge: Smallest number, None if there is no such limit.
        le: Largest number, None if there is no such limit.
    """

    type: str
    is_required: bool = False
    options: tuple[object, ...] | None = None
    upload: str = ""
    ge: float | None = None
    le: float | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether the inputs of a graph are made of it, under names of their own."""
        return is_dynamic(self.type)

    @property
    def choices(self) -> tuple[object, ...] | None:
        """What a `COMBO` can be on any server; None where it offers what one machine has."""
        return None if self.options is None or is_listing(self.options) else self.options


@attrs.frozen(kw_only=True)
class NodeSchema:
    """One class of nodes.

    Attributes:
        inputs: By name; inputs that only the server itself fills in are left out.
        outputs: The types of its outputs.
        is_output: Whether its nodes are ends of a workflow.
        module: The Python module that it comes from, "" if the server does not tell.
    """

    inputs: Mapping[str, InputSchema]
    outputs: tuple[str, ...] = ()
    is_output: bool = False
    module: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the inputs that a node needs."""
        return tuple(name for name, schema in self.inputs.items() if schema.is_required)

    @property
    def pack(self) -> str:
        """The pack of nodes that it comes from, "" for ComfyUI itself or if not known."""
        home, _, rest = self.module.partition(".")
        return rest.partition(".")[0] if home == "custom_nodes" else ""


@attrs.frozen
class Schemas:
    """The node classes of one server, each understood when it is first asked for."""

    raw: Mapping[str, Any]
    _read: dict[str, NodeSchema] = attrs.field(
        factory=dict[str, NodeSchema], init=False, eq=False, repr=False
    )

    def __contains__(self, class_type: object) -> bool:
        return is_mapping(self.raw.get(str(class_type)))

    def node(self, class_type: str) -> NodeSchema | None:
        """Return a class of nodes, None if the server has none of that name."""
        if class_type not in self._read:
            if class_type not in self:
                return None
            self._read[class_type] = _node(mapping(self.raw[class_type]))
        return self._read[class_type]

    def input(self, class_type: str, name: str) -> InputSchema | None:
        """Return one input of a class of nodes, None if the server has none of that name."""
        schema = self.node(class_type)
        return schema.inputs.get(name) if schema else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(self.raw)


@functools.cache
def pinned(package: str) -> Schemas:
    """Return the schemas that a generated package carries; none if it carries none."""
    try:
        source = importlib.resources.files(package).joinpath(PINNED).read_text("utf-8")
        return Schemas(mapping(json.loads(source)))
    except (OSError, ValueError, ModuleNotFoundError):
        return Schemas({})


def _node(raw: Mapping[str, Any]) -> NodeSchema:
    groups = mapping(raw.get("input"))
    optional = {
        name: _input(entry, is_required=False)
        for name, entry in mapping(groups.get("optional")).items()
    }
    required = {
        name: _input(entry, is_required=True)
        for name, entry in mapping(groups.get("required")).items()
    }
    return NodeSchema(
        inputs=optional | required,
        outputs=tuple(_type(entry) for entry in items(raw.get("output"))),
        is_output=raw.get("output_node") is True,
        module=text(raw.get("python_module")) or "",
    )


def _type(entry: object) -> str:
    return COMBO if is_array(entry) else str(entry)


def _input(entry: object, *, is_required: bool) -> InputSchema:
    parts = items(entry)
    kind: object = parts[0] if parts else ""
    facts = mapping(parts[1] if len(parts) > 1 else None)
    offered: object = kind if is_array(kind) else facts.get("options")
    several = facts.get("multiselect") is True or "multi_select" in facts
    is_plain = not any(map(is_mapping, items(offered))) and facts.get("remote") is None
    known = is_array(offered) and not several and is_plain
    return InputSchema(
        type=_type(kind),
        is_required=is_required,
        options=tuple(items(offered)) if known else None,
        upload=next((kind for kind in _UPLOADS if facts.get(f"{kind}_upload") is True), ""),
        ge=_limit(facts.get("min")),
        le=_limit(facts.get("max")),
    )


def _limit(value: object) -> float | None:
    """Return a limit, as a whole number where it is one; None if there is none."""
    found = number(value)
    if found is None or isinstance(found, int):
        return found
    if not math.isfinite(found):
        return None
    return int(found) if found.is_integer() and abs(found) < 2**53 else found
