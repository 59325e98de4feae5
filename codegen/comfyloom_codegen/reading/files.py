"""Workflow files: from bytes to a graph that holds nodes and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom.errors import InputFileError
from comfyloom.graph import Graph, is_link_shaped
from comfyloom_codegen.problems import Findings, Problem
from comfyloom_codegen.shapes import as_object, is_array, is_object

SCHEMA_FILE: Final = "object_info.json"
BINDING_SCHEMA_FILE: Final = "binding.schema.json"
SUFFIXES: Final = frozenset({".json", ".png", ".glb"})

_ENVELOPES: Final = (("prompt",), ("input", "workflow"), ("input", "prompt"), ("workflow",))
_LIKE_AN_ID: Final = re.compile(r"\d+(?:[:_.]\d+)*")
UI_FORMAT: Final = (
    "this is the format that ComfyUI saves for itself; export the workflow again "
    "with Workflow → Export (API)"
)


@attrs.frozen(kw_only=True)
class Source:
    """One workflow file as it was read.

    Attributes:
        path: Where it lies.
        text: The JSON in it, every end of line a line feed.
        graph: Its nodes.
        binding: The text of the TOML file beside it, None if there is none.
        problems: What its author should know of it.
    """

    path: Path
    text: str
    graph: Graph
    binding: str | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.path.name

    @property
    def classes(self) -> frozenset[str]:
        """The classes of its nodes."""
        return frozenset(entry["class_type"] for entry in self.graph.values())

    @property
    def stem(self) -> str:
        """The name of the file without its suffix."""
        return self.file.rpartition(".")[0]


def workflow_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold a workflow, by name."""
    return sorted(
        (path for path in folder.iterdir() if _may_hold_a_workflow(path)),
        key=lambda path: path.name,
    )


def _may_hold_a_workflow(path: Path) -> bool:
    # `._x` is what macOS leaves beside a file `x` on foreign file systems.
    is_none = path.name in (SCHEMA_FILE, BINDING_SCHEMA_FILE) or path.name.startswith("._")
    return path.suffix.lower() in SUFFIXES and not is_none


def read_source(path: Path, findings: Findings) -> Source | None:
    """Read a workflow file and the binding beside it; what is wrong goes to `findings`.

    A PNG or GLB without a workflow gives a warning: it may be there for another reason.
    """
    graph_text = read_workflow_text(path, findings)
    data = None if graph_text is None else parse_json(graph_text, findings)
    if graph_text is None or data is None:
        return None
    graph = _graph(data, findings)
    binding_path = path.with_suffix(".toml")
    binding = read_text(binding_path, findings) if binding_path.is_file() else None
    if findings.failed:
        return None
    return Source(path=path, text=graph_text, graph=graph, binding=binding)


def only_source(path: Path) -> Source:
    """Read one workflow file.

    Raises:
        InputFileError: There is no such file.
        WorkflowError: It is no workflow; one line an error.
    """
    if not path.is_file():
        raise InputFileError(f"there is no file {path}")
    findings = Findings(path.name)
    source = read_source(path, findings)
    if source is None and not findings.failed:
        findings.error("there is no workflow in it")
    findings.raise_for_errors()
    assert source is not None
    return attrs.evolve(source, problems=tuple(findings.problems))


def read_workflow_text(path: Path, findings: Findings) -> str | None:
    """Return the JSON of a workflow file, or of the workflow that a PNG or GLB carries."""
    if path.suffix.lower() == ".json":
        return read_text(path, findings)
    from comfyloom_codegen.reading.embedded import workflow_of

    try:
        found = workflow_of(path.read_bytes())
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror or error})")
        return None
    if found.api is None and found.has_other:
        findings.error(UI_FORMAT)
    elif found.api is None:
        findings.warn("there is no workflow in it; it is left out")
    return found.api


def read_text(path: Path, findings: Findings) -> str | None:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, with or without a mark."""
    try:
        content = path.read_bytes()
        text = content.decode(json.detect_encoding(content))
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror or error})", file=path.name)
        return None
    except UnicodeDecodeError as error:
        findings.error(f"is no text: {error.reason} at byte {error.start}", file=path.name)
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str, findings: Findings) -> dict[str, Any] | None:
    """Return the object that a JSON text holds; a key that comes twice is an error."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            twice = {key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1}
            findings.error(f"the key {', '.join(map(repr, sorted(twice)))} comes twice")
        return made

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        findings.error(f"line {error.lineno}, column {error.colno}: {error.msg}")
        return None
    except (ValueError, RecursionError) as error:
        findings.error(f"cannot be read as JSON: {error}")
        return None
    if not is_object(data):
        findings.error("a JSON object is expected")
        return None
    return data


def is_public_literal(value: object) -> bool:
    """Return whether an input holds a value; ComfyUI takes every bare list for a link."""
    return not is_array(value)


def unwrapped(value: object) -> object:
    """Return the list that `{"__value__": […]}` stands for; other values as they are."""
    inner = value.get("__value__") if is_object(value) and len(value) == 1 else None
    return inner if is_array(inner) else value


def _graph(data: dict[str, Any], findings: Findings) -> Graph:
    data = _unpacked(data)
    if is_array(data.get("nodes")):
        findings.error(UI_FORMAT)
        return {}
    graph = {key: value for key, value in data.items() if _is_meant_as_node(key, value)}
    for key in data:
        if key not in graph:
            findings.warn(f"the key {key!r} is no node and is left out")
    if not graph:
        findings.error("there is no node in it")
    for node, entry in graph.items():
        _check_node(node, entry, findings)
    if not findings.failed:
        _check_numbers(graph, findings)
        _check_links(graph, findings)
    return graph


def _unpacked(data: dict[str, Any]) -> dict[str, Any]:
    """Return the graph inside the body of a request, or `data` if it is no such body."""
    if any(map(_is_node_shaped, data.values())):
        return data
    for path in _ENVELOPES:
        inner: Any = data
        for key in path:
            inner = as_object(inner).get(key)
        found = as_object(inner)
        if is_array(found.get("nodes")) or any(map(_is_node_shaped, found.values())):
            return found
    return data


def _is_node_shaped(value: object) -> bool:
    return is_object(value) and ("class_type" in value or "inputs" in value)


def _is_meant_as_node(key: str, value: object) -> bool:
    return _is_node_shaped(value) or _LIKE_AN_ID.fullmatch(key) is not None


def _check_node(node: str, entry: object, findings: Findings) -> None:
    if not is_object(entry):
        findings.error("an object is expected", node=node)
        return
    class_type = entry.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        findings.error("class_type is no text", node=node)
    if not is_object(entry.get("inputs")):
        findings.error("inputs is no object", node=node)


def _check_numbers(graph: Graph, findings: Findings) -> None:
    """Refuse what JSON has no number for in inputs; elsewhere, where nobody reads it, drop it."""
    try:
        json.dumps(graph, allow_nan=False)
    except ValueError:
        pass
    else:
        return
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if not _is_finite(value):
                findings.error(f"input {name!r} holds NaN or an infinite number", node=node)
        for key, value in entry.items():
            if key != "inputs" and not _is_finite(value):
                findings.warn(f"NaN under {key!r} becomes null", node=node)
                entry[key] = _without_nan(value)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return all(map(_is_finite, _children(value)))


def _children(value: object) -> Iterator[object]:
    if is_object(value):
        yield from value.values()
    elif is_array(value):
        yield from value


def _without_nan(value: Any) -> Any:
    if is_object(value):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if is_array(value):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_links(graph: Graph, findings: Findings) -> None:
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            if is_link_shaped(value) and value[0] not in graph:
                reason = f"input {name!r} links to node {value[0]!r}, which is not there"
                findings.warn(f"{reason}; the workflow cannot run", node=node)
