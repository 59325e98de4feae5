"""Read workflow files: from bytes to a graph that contains only nodes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import attrs

from comfyloom._core.json import is_mapping
from comfyloom._workflow.graph import Graph
from comfyloom.errors import InputFileError
from comfyloom_codegen.problems import Problem, ProblemLog
from comfyloom_codegen.reading.graphs import UI_FORMAT, graph_of

SCHEMA_FILE: Final = "object_info.json"
BINDING_SCHEMA_FILE: Final = "binding.schema.json"
SUFFIXES: Final = frozenset({".json", ".png", ".glb"})


@attrs.frozen(kw_only=True)
class WorkflowSource:
    """One workflow file after reading.

    Attributes:
        path: The path of the file.
        text: The JSON in it, with line feeds as line endings.
        graph: Its nodes.
        binding: The text of the TOML file beside it, None if there is none.
        problems: The warnings for its author.
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
    def node_types(self) -> frozenset[str]:
        """The types of its nodes."""
        return frozenset(entry["class_type"] for entry in self.graph.values())

    @property
    def stem(self) -> str:
        """The name of the file without its suffix."""
        return self.file.rpartition(".")[0]


def check_folder(folder: Path) -> None:
    """Check that a folder of workflows can be read.

    Raises:
        InputFileError: The folder does not exist, is a file, or cannot be read.
    """
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        hint = "set --workflows or [tool.comfyloom.codegen] in pyproject.toml"
        raise InputFileError(f"there is no folder {folder}: {hint}") from None
    except OSError as error:
        raise InputFileError(f"cannot read the folder {folder}: {error.strerror}") from None


def workflow_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold a workflow, sorted by name."""
    return sorted(
        (path for path in folder.iterdir() if _may_hold_a_workflow(path)),
        key=lambda path: path.name,
    )


def is_present(path: Path) -> bool:
    """Return whether a path exists, also as a dangling symbolic link."""
    return path.exists() or path.is_symlink()


def _may_hold_a_workflow(path: Path) -> bool:
    # macOS leaves a file `._x` beside a file `x` on other file systems.
    is_excluded = path.name in (SCHEMA_FILE, BINDING_SCHEMA_FILE) or path.name.startswith("._")
    return path.suffix.lower() in SUFFIXES and not is_excluded


def read_source(path: Path, problems: ProblemLog) -> WorkflowSource | None:
    """Read a workflow file and the binding beside it; return None if there is no workflow to use.

    Errors and warnings are added to `problems`. A PNG or GLB without a workflow is only a warning:
    it may be in the folder for another reason.
    """
    graph_text = read_workflow_text(path, problems)
    data = None if graph_text is None else parse_json(graph_text, problems)
    if graph_text is None or data is None:
        return None
    graph = graph_of(data, problems)
    binding_path = path.with_suffix(".toml")
    binding = read_text(binding_path, problems) if is_present(binding_path) else None
    if problems.has_errors:
        return None
    return WorkflowSource(path=path, text=graph_text, graph=graph, binding=binding)


def require_source(path: Path) -> WorkflowSource:
    """Read one workflow file.

    Raises:
        InputFileError: The file does not exist.
        WorkflowError: The file is not a workflow; the message has one line for each error.
    """
    if not path.is_file():
        reason = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise InputFileError(f"{reason}: expected the path of a workflow file")
    problems = ProblemLog(path.name)
    source = read_source(path, problems)
    if source is None and not problems.has_errors:
        problems.error("it contains no workflow")
    problems.raise_for_errors()
    assert source is not None
    return attrs.evolve(source, problems=tuple(problems.entries))


def read_workflow_text(path: Path, problems: ProblemLog) -> str | None:
    """Return the JSON of a workflow file, or of the workflow that a PNG or GLB carries."""
    if path.suffix.lower() == ".json":
        return read_text(path, problems)
    from comfyloom._workflow.embedded import workflow_of

    if not _is_regular(path, problems):
        return None
    try:
        found = workflow_of(path.read_bytes())
    except OSError as error:
        problems.error(f"cannot be read ({error.strerror or error})")
        return None
    if found.api is None and found.has_other:
        problems.error(UI_FORMAT)
    elif found.api is None:
        problems.warn("skipped: it contains no workflow")
    return found.api


def _is_regular(path: Path, problems: ProblemLog) -> bool:
    if path.exists() and not (path.is_file() or path.is_dir()):
        problems.error(
            "is not a regular file", file=path.name
        )  # reading a pipe might block forever
        return False
    return True


def read_text(path: Path, problems: ProblemLog) -> str | None:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    if not _is_regular(path, problems):
        return None
    try:
        content = path.read_bytes()
        text = content.decode(json.detect_encoding(content))
    except OSError as error:
        problems.error(f"cannot be read ({error.strerror or error})", file=path.name)
        return None
    except UnicodeDecodeError as error:
        problems.error(f"is not text: {error.reason} at byte {error.start}", file=path.name)
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str, problems: ProblemLog) -> dict[str, Any] | None:
    """Return the object in JSON text; a duplicate key is an error."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = {key for key, times in Counter(key for key, _ in pairs).items() if times > 1}
            problems.error(f"the key {', '.join(map(repr, sorted(twice)))} occurs twice")
        return found

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        problems.error(f"line {error.lineno}, column {error.colno}: {error.msg}")
        return None
    except (ValueError, RecursionError) as error:
        problems.error(f"cannot be read as JSON: {error}")
        return None
    if not is_mapping(data):
        problems.error("expected a JSON object")
        return None
    return data
