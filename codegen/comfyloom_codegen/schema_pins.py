"""Pin the schemas of the node types in use, without what is specific to one server.

Lists of files depend on the machine, and human-readable text is not used. Neither is kept, so the
pinned file changes only when the nodes change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.json import is_array, is_mapping, mapping
from comfyloom._workflow.node_schemas import is_listing
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.reading.files import read_source, workflow_files
from comfyloom_codegen.writing import json_text

_KEPT: Final = (
    *("input", "input_order", "output", "output_is_list", "output_name", "output_node"),
    *("python_module", "deprecated"),
)
# Human-readable text, shown in ComfyUI's web UI.
_HUMAN_READABLE: Final = frozenset({"tooltip", "description", "display_name", "placeholder"})


@attrs.frozen(kw_only=True)
class PinUpdate:
    """The schemas of the node types in use, and how they differ from those pinned before.

    Attributes:
        schemas: Schema by node type, sorted.
        new: Node types that were not pinned before.
        changed: Node types whose schema differs.
        removed: Node types that no workflow uses any more.
        unknown: Node types in use that the server does not have; their pinned schemas are kept.
    """

    schemas: Mapping[str, Any]
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text of the pinned file."""
        return json_text(self.schemas, indent=1)


def classes_in_use(folder: Path) -> set[str]:
    """Return the node types used in a folder of workflow files.

    Raises:
        WorkflowError: A file cannot be read, so its node types are unknown.
    """
    found: set[str] = set()
    problems = ProblemLog("")
    for path in workflow_files(folder):
        source = read_source(path, ProblemLog(path.name, problems.entries))
        found |= source.node_types if source else set()
    problems.raise_for_errors()
    return found


def update_pins(
    node_types: Iterable[str], live: Mapping[str, Any], before: Mapping[str, Any]
) -> PinUpdate:
    """Return the schemas to pin.

    Args:
        node_types: The node types in use.
        live: The schemas that a server reports (`/object_info`), by node type.
        before: The schemas pinned so far, by node type.
    """
    wanted = sorted(set(node_types))
    known = {each: pinned_class(live[each]) for each in wanted if is_mapping(live.get(each))}
    schemas = {each: known.get(each, before.get(each)) for each in wanted}
    return PinUpdate(
        schemas={each: schema for each, schema in schemas.items() if schema is not None},
        new=tuple(each for each in known if each not in before),
        changed=tuple(each for each in known if each in before and before[each] != known[each]),
        removed=tuple(each for each in sorted(before) if each not in schemas),
        unknown=tuple(each for each in wanted if each not in known),
    )


def pinned_class(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of one node type's schema that is pinned."""
    kept = {key: raw[key] for key in _KEPT if key in raw}
    groups = mapping(kept.get("input"))
    pinned = {
        name: {key: _input(entry) for key, entry in group.items()} if is_mapping(group) else group
        for name, group in groups.items()
    }
    return {**kept, "input": pinned}


def _input(entry: object) -> object:
    """Return the part of one input's schema that is pinned: `[type or list, options]`."""
    if not is_array(entry) or not entry:
        return entry
    kind, *rest = entry
    facts = {
        key: value
        for key, value in mapping(rest[0] if rest else None).items()
        if key not in _HUMAN_READABLE
    }
    if is_array(kind) and is_listing(kind):
        kind = "COMBO"
    if is_array(facts.get("options")) and is_listing(facts["options"]):
        del facts["options"]
    return [kind, facts] if rest or kind == "COMBO" else [kind]
