"""Pinned node schemas: a server's response to `/object_info`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.json import is_mapping, mapping
from comfyloom._workflow.node_schemas import InputSchema, Schemas, is_listing
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.reading.files import SCHEMA_FILE, is_present, parse_json, read_text

MAX_CHOICES: Final = 24
"""A longer list shows what is installed on a server, not what a node can do."""


def closed_choices(schema: InputSchema) -> tuple[str, ...]:
    """Return the fixed list of choices; () if it lists files or installed resources."""
    options = schema.options or ()
    texts = tuple(option for option in options if isinstance(option, str))
    is_short = 2 <= len(set(texts)) == len(options) <= MAX_CHOICES
    return texts if is_short and not is_listing(texts) else ()


@attrs.frozen
class PinnedSchemas(Schemas):
    """The node schemas pinned beside the workflow files."""

    _texts: dict[str, str] = attrs.field(factory=dict[str, str], init=False, eq=False, repr=False)

    def text(self, class_types: Iterable[str]) -> str:
        """Return the schemas of some node types as one string, to detect changes."""
        return "\n".join(map(self._text, sorted(set(class_types))))

    def package_file(self, class_types: Iterable[str]) -> str:
        """Return the text of the schema file in the package, for some node types."""
        known = {name: self.raw[name] for name in sorted(set(class_types)) if name in self.raw}
        lines = (f"{json.dumps(name)}: {json.dumps(raw)}" for name, raw in known.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _text(self, class_type: str) -> str:
        if class_type not in self._texts:
            self._texts[class_type] = json.dumps([class_type, self.raw.get(class_type)])
        return self._texts[class_type]


def node_types_in(graph: str) -> set[str]:
    """Return the node types of a graph written earlier; an empty set if it is damaged."""
    try:
        entries = mapping(json.loads(graph)).values()
    except ValueError:
        return set()
    found = (mapping(entry).get("class_type") for entry in entries)
    return {each for each in found if isinstance(each, str)}


def schemas_beside(path: Path) -> PinnedSchemas:
    """Return the schemas pinned in the folder of a file; there may be none.

    Raises:
        WorkflowError: The schemas cannot be read.
    """
    problems = ProblemLog(SCHEMA_FILE)
    found = read_schemas(path.parent, problems)
    problems.raise_for_errors()
    return found


def read_schemas(folder: Path, problems: ProblemLog) -> PinnedSchemas:
    """Read the pinned schemas of a folder of workflows; there may be none."""
    path = folder / SCHEMA_FILE
    return PinnedSchemas(read_object_info(path, problems) if is_present(path) else {})


def read_object_info(path: Path, problems: ProblemLog) -> dict[str, Any]:
    """Return the schemas in a file by node type, {} if there are errors: see `problems`."""
    text = read_text(path, problems)
    found = None if text is None else parse_json(text, problems)
    schemas = [each for each in (found or {}).values() if is_mapping(each)]
    if found and not any("input" in each or "output" in each for each in schemas):
        problems.error("this is not an /object_info response: it contains no node types")
    return found or {}
