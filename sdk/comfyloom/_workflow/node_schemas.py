"""The schemas of a ComfyUI server's node types (`/object_info`), read leniently.

ComfyUI versions write them differently: a list in place of a type means the same as `COMBO` with
`options`. Custom node packs may write anything.
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
"""The file in a generated package with the schemas of the server it was generated against."""
COMBO: Final = "COMBO"
# Inputs that list the files in one of the server's upload folders.
_UPLOADS: Final = ("image", "video", "audio", "file")
MAX_CHOICES: Final = 100
"""The longest list that can be the choices of a node; a longer one lists installed files."""
_FILE_NAME: Final = re.compile(r"[/\\]|\.[A-Za-z][A-Za-z0-9]{1,11}$")


def is_dynamic(kind: str) -> bool:
    """Return whether an input of this type stands for other inputs, which each graph defines.

    For example `COMFY_AUTOGROW_V3`, `COMFY_DYNAMICCOMBO_V3` and `COMFY_MATCHTYPE_V3`.
    """
    return kind.startswith("COMFY_")


def is_listing(options: Sequence[object]) -> bool:
    """Return whether options list what one machine has, such as files, and not fixed choices."""
    texts = [option for option in options if isinstance(option, str)]
    is_long = len(options) > MAX_CHOICES
    # A single option is a default that remains if the machine has no files.
    return len(options) < 2 or is_long or any(map(_FILE_NAME.search, texts))


@attrs.frozen(kw_only=True)
class InputSchema:
    """One input of a node type.

    Attributes:
        type: ComfyUI's name of its type; `COMBO` for one value of a list.
        is_required: Whether a node needs it.
        options: The options of a `COMBO`, None if the server does not list them.
        upload: The kind of file that can be uploaded for it (`image`, `video`, `audio`, `file`),
            "" if none.
        ge: The smallest valid number, None if there is no limit.
        le: The largest valid number, None if there is no limit.
    """

    type: str
    is_required: bool = False
    options: tuple[object, ...] | None = None
    upload: str = ""
    ge: float | None = None
    le: float | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether it stands for other inputs, which each graph defines under their own names."""
        return is_dynamic(self.type)

    @property
    def choices(self) -> tuple[object, ...] | None:
        """The options of a `COMBO` that are the same on each server, None if they are not."""
        return None if self.options is None or is_listing(self.options) else self.options


@attrs.frozen(kw_only=True)
class NodeSchema:
    """One node type.

    Attributes:
        inputs: Its inputs by name, without those that only the server sets.
        outputs: The types of its outputs.
        is_output: Whether its nodes are output nodes.
        is_partner: Whether its nodes call the paid service of a partner of ComfyUI.
        module: The Python module that defines it, "" if the server does not report it.
    """

    inputs: Mapping[str, InputSchema]
    outputs: tuple[str, ...] = ()
    is_output: bool = False
    is_partner: bool = False
    module: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the inputs that a node needs."""
        return tuple(name for name, schema in self.inputs.items() if schema.is_required)

    @property
    def pack(self) -> str:
        """The custom node pack that it comes from, "" for ComfyUI itself or if not known."""
        home, _, rest = self.module.partition(".")
        return rest.partition(".")[0] if home == "custom_nodes" else ""


@attrs.frozen
class Schemas:
    """The node types of one server, each parsed when it is first used."""

    raw: Mapping[str, Any]
    _parsed: dict[str, NodeSchema] = attrs.field(
        factory=dict[str, NodeSchema], init=False, eq=False, repr=False
    )

    def __contains__(self, class_type: object) -> bool:
        return is_mapping(self.raw.get(str(class_type)))

    def node(self, class_type: str) -> NodeSchema | None:
        """Return the schema of a node type, None if the server does not have the type."""
        if class_type not in self._parsed:
            if class_type not in self:
                return None
            self._parsed[class_type] = _node(mapping(self.raw[class_type]))
        return self._parsed[class_type]

    def input(self, class_type: str, name: str) -> InputSchema | None:
        """Return one input of a node type, None if the server does not have it."""
        schema = self.node(class_type)
        return schema.inputs.get(name) if schema else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all node types."""
        return tuple(self.raw)


@functools.cache
def pinned(package: str) -> Schemas:
    """Return the schemas in a generated package, empty if it has none."""
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
        is_partner=raw.get("api_node") is True,
        module=text(raw.get("python_module")) or "",
    )


def _type(entry: object) -> str:
    return COMBO if is_array(entry) else str(entry)


def _input(entry: object, *, is_required: bool) -> InputSchema:
    parts = items(entry)
    kind: object = parts[0] if parts else ""
    facts = mapping(parts[1] if len(parts) > 1 else None)
    options: object = kind if is_array(kind) else facts.get("options")
    is_multiple = facts.get("multiselect") is True or "multi_select" in facts
    is_plain = not any(map(is_mapping, items(options))) and facts.get("remote") is None
    is_known = is_array(options) and not is_multiple and is_plain
    return InputSchema(
        type=_type(kind),
        is_required=is_required,
        options=tuple(items(options)) if is_known else None,
        upload=next((kind for kind in _UPLOADS if facts.get(f"{kind}_upload") is True), ""),
        ge=_limit(facts.get("min")),
        le=_limit(facts.get("max")),
    )


def _limit(value: object) -> float | None:
    """Return a limit, as an integer if it is whole, None if it is not a finite number."""
    found = number(value)
    if found is None or isinstance(found, int):
        return found
    if not math.isfinite(found):
        return None
    return int(found) if found.is_integer() and abs(found) < 2**53 else found
