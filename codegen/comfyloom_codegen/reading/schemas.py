"""Pinned node schemas: what a server said of its nodes' inputs (`/object_info`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.json import is_mapping, mapping
from comfyloom._workflow.node_schemas import InputSchema, Schemas, is_listing
from comfyloom_codegen.problems import Findings
from comfyloom_codegen.reading.files import SCHEMA_FILE, is_there, parse_json, read_text

MOST_CHOICES: Final = 24
"""Longer lists are what somebody installed, not what a node can do."""


def closed_choices(schema: InputSchema) -> tuple[str, ...]:
    """Return the closed list of choices; () where files or installed things are listed."""
    options = schema.options or ()
    texts = tuple(option for option in options if isinstance(option, str))
    few = 2 <= len(set(texts)) == len(options) <= MOST_CHOICES
    return texts if few and not is_listing(texts) else ()


@attrs.frozen
class Pinned(Schemas):
    """The schemas beside the workflow files."""

    _texts: dict[str, str] = attrs.field(factory=dict[str, str], init=False, eq=False, repr=False)

    def text(self, class_types: Iterable[str]) -> str:
        """Return the schemas of some classes as one text, to tell whether they changed."""
        return "\n".join(map(self._text, sorted(set(class_types))))

    def package_file(self, class_types: Iterable[str]) -> str:
        """Return the schemas of some classes as the file that the package carries."""
        known = {name: self.raw[name] for name in sorted(set(class_types)) if name in self.raw}
        lines = (f"{json.dumps(name)}: {json.dumps(raw)}" for name, raw in known.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _text(self, class_type: str) -> str:
        if class_type not in self._texts:
            self._texts[class_type] = json.dumps([class_type, self.raw.get(class_type)])
        return self._texts[class_type]


def classes_in(graph: str) -> set[str]:
    """Return the class types of a graph that was written earlier; none if it is none any more."""
    try:
        entries = mapping(json.loads(graph)).values()
    except ValueError:
        return set()
    found = (mapping(entry).get("class_type") for entry in entries)
    return {each for each in found if isinstance(each, str)}


def schemas_beside(path: Path) -> Pinned:
    """Return the pinned schemas of the folder that a file lies in; there may be none.

    Raises:
        WorkflowError: They cannot be read.
    """
    findings = Findings(SCHEMA_FILE)
    found = read_schemas(path.parent, findings)
    findings.raise_for_errors()
    return found


def read_schemas(folder: Path, findings: Findings) -> Pinned:
    """Read the pinned schemas of a folder of workflows; there may be none."""
    path = folder / SCHEMA_FILE
    return Pinned(read_object_info(path, findings) if is_there(path) else {})


def read_object_info(path: Path, findings: Findings) -> dict[str, Any]:
    """Return what a file says of classes, {} if it cannot be read; why not goes to `findings`."""
    text = read_text(path, findings)
    found = None if text is None else parse_json(text, findings)
    classes = [each for each in (found or {}).values() if is_mapping(each)]
    if found and not any("input" in each or "output" in each for each in classes):
        findings.error("this is no answer of /object_info: no class of nodes is in it")
    return found or {}
