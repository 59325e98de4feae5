"""Workflow files: from bytes to a graph that holds nodes and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.json import is_mapping
from comfyloom._workflow.graph import Graph
from comfyloom.errors import InputFileError
from comfyloom_codegen.problems import Findings, Problem
from comfyloom_codegen.reading.graphs import UI_FORMAT, graph_of

SCHEMA_FILE: Final = "object_info.json"
BINDING_SCHEMA_FILE: Final = "binding.schema.json"
SUFFIXES: Final = frozenset({".json", ".png", ".glb"})


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


def check_folder(folder: Path) -> None:
    """Refuse what is no folder that can be read.

    Raises:
        InputFileError: It is not there, is a file, or cannot be read.
    """
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        hint = "--workflows or [tool.comfyloom.codegen] in pyproject.toml says where they are"
        raise InputFileError(f"there is no folder {folder}: {hint}") from None
    except OSError as error:
        raise InputFileError(f"cannot read the folder {folder}: {error.strerror}") from None


def workflow_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold a workflow, by name."""
    return sorted(
        (path for path in folder.iterdir() if _may_hold_a_workflow(path)),
        key=lambda path: path.name,
    )


def is_there(path: Path) -> bool:
    """Return whether something has this name, also a link that leads nowhere."""
    return path.exists() or path.is_symlink()


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
    graph = graph_of(data, findings)
    binding_path = path.with_suffix(".toml")
    binding = read_text(binding_path, findings) if is_there(binding_path) else None
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
        is_other = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise InputFileError(f"{is_other}: the path of a workflow file is expected")
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
    from comfyloom._workflow.embedded import workflow_of

    if not _is_regular(path, findings):
        return None
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


def _is_regular(path: Path, findings: Findings) -> bool:
    if path.exists() and not (path.is_file() or path.is_dir()):
        findings.error("is no regular file", file=path.name)  # reading it might wait for ever
        return False
    return True


def read_text(path: Path, findings: Findings) -> str | None:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, with or without a mark."""
    if not _is_regular(path, findings):
        return None
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
            twice = {key for key, times in Counter(key for key, _ in pairs).items() if times > 1}
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
    if not is_mapping(data):
        findings.error("a JSON object is expected")
        return None
    return data
