"""Pinning the schemas of the classes in use: what a server says of them, without what is its own.

Lists of files are what one machine has in its folders, and texts for people are of no use to a
program: neither is kept, so the pinned file changes only when the nodes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.json import is_array, is_mapping, mapping
from comfyloom._workflow.node_schemas import is_listing
from comfyloom_codegen.problems import Findings
from comfyloom_codegen.reading.files import read_source, workflow_files
from comfyloom_codegen.writing import json_text

_KEPT: Final = (
    *("input", "input_order", "output", "output_is_list", "output_name", "output_node"),
    *("python_module", "deprecated"),
)
# What tells people, or ComfyUI's page, something.
_FOR_PEOPLE: Final = frozenset({"tooltip", "description", "display_name", "placeholder"})


@attrs.frozen(kw_only=True)
class Pins:
    """The schemas of the classes in use, and how they differ from those pinned before.

    Attributes:
        schemas: By class, sorted.
        new: Classes that were not pinned before.
        changed: Classes whose schema differs.
        removed: Classes that no workflow uses any more.
        unknown: Classes in use that the server does not have; what was pinned of them stays.
    """

    schemas: Mapping[str, Any]
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The pinned file."""
        return json_text(self.schemas, indent=1)


def classes_in_use(folder: Path) -> set[str]:
    """Return the classes of all nodes in a folder of workflow files.

    Raises:
        WorkflowError: A file cannot be read: nobody could tell which classes it uses.
    """
    found: set[str] = set()
    findings = Findings("")
    for path in workflow_files(folder):
        of_file = Findings(path.name, findings.problems)
        source = read_source(path, of_file)
        found |= source.classes if source else set()
    findings.raise_for_errors()
    return found


def pin(classes: Iterable[str], live: Mapping[str, Any], before: Mapping[str, Any]) -> Pins:
    """Return the schemas of some classes.

    Args:
        classes: The classes in use.
        live: What a server says of its classes (`/object_info`), by class.
        before: What was pinned.
    """
    wanted = sorted(set(classes))
    known = {each: pinned_class(live[each]) for each in wanted if is_mapping(live.get(each))}
    schemas = {each: known.get(each, before.get(each)) for each in wanted}
    return Pins(
        schemas={each: schema for each, schema in schemas.items() if schema is not None},
        new=tuple(each for each in known if each not in before),
        changed=tuple(each for each in known if each in before and before[each] != known[each]),
        removed=tuple(each for each in sorted(before) if each not in schemas),
        unknown=tuple(each for each in wanted if each not in known),
    )


def pinned_class(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of one class."""
    kept = {key: raw[key] for key in _KEPT if key in raw}
    groups = mapping(kept.get("input"))
    return {**kept, "input": {name: _group(group) for name, group in groups.items()}}


def _group(group: object) -> object:
    if not is_mapping(group):
        return group
    return {name: _input(entry) for name, entry in group.items()}


def _input(entry: object) -> object:
    """Return what is kept of one input: `[type or list, facts]`."""
    if not is_array(entry) or not entry:
        return entry
    kind, *rest = entry
    facts = {
        key: value
        for key, value in mapping(rest[0] if rest else None).items()
        if key not in _FOR_PEOPLE
    }
    if is_array(kind) and is_listing(kind):
        kind = "COMBO"
    if is_array(facts.get("options")) and is_listing(facts["options"]):
        del facts["options"]
    return [kind, facts] if rest or kind == "COMBO" else [kind]
