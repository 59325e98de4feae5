"""The values of one run of a workflow: its graph, its input files, its seeds.

These are functions because a method of `Workflow` could collide with the name of a field.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, cast

from comfyloom._workflow.files import FileKind, ImageSource, InputFile, read_input, source_name
from comfyloom._workflow.graph import Graph, literal
from comfyloom._workflow.input_spec import UNSET, InputSpec, Target
from comfyloom._workflow.picture_lists import as_folder, images_of
from comfyloom.errors import InputFileError, InputValueError

if TYPE_CHECKING:
    from comfyloom._workflow.workflow import Workflow


class _All:
    """Contains every node."""

    def __contains__(self, _: object) -> bool:
        return True


ALL: Final[Container[str]] = _All()
# The suffix that a graph shows for bytes without a file name.
_SUFFIXES: Final = {"image": ".png", "mask": ".png", "audio": ".wav", "video": ".mp4", "file": ""}


def run_graph(
    workflow: Workflow[Any],
    *,
    files: Mapping[str, str],
    seeds: Mapping[str, int],
    nodes: Container[str] = ALL,
) -> Graph:
    """Return the graph of one run.

    Args:
        workflow: The workflow with its values.
        files: The names of the uploaded files on the server, by field; see `read_files`.
        seeds: The drawn seeds, by field.
        nodes: The nodes that run; the graph has only these.

    Raises:
        InputValueError: Required values are unset; it lists them all.
    """
    _require_all(workflow, nodes)
    graph = {node: entry for node, entry in workflow.template_graph().items() if node in nodes}
    for spec in workflow.__workflow__.inputs:
        value = getattr(workflow, spec.name)
        if spec.kind == "images" and value is not None:
            _set_images(graph, spec, value, files)
            continue
        if spec.is_file and value is not None:
            value = _file_name(spec, value, files)
        elif spec.kind == "seed":
            value = seeds.get(spec.name, value)
        if value is not None or spec.kind == "value":
            for target in _targets(spec, nodes):
                raw = target.value(spec.json_value(value))
                graph[target.node]["inputs"][target.input] = literal(raw)
    return graph


def read_files(workflow: Workflow[Any], nodes: Container[str] = ALL) -> dict[str, InputFile]:
    """Read all input files of a run, and return them by field: "mesh", "views[0]", "views[1]".

    Raises:
        InputFileError: A file is missing or cannot be read.
        InputValueError: A file does not have the expected format, or required values are unset.
    """
    _require_all(workflow, nodes)
    inputs = workflow.__workflow__.inputs
    specs = [spec for spec in inputs if spec.is_file and _targets(spec, nodes)]
    given = {spec: source for spec in specs if (source := getattr(workflow, spec.name)) is not None}
    return {key: file for spec in given for key, file in _read(spec, given[spec]).items()}


def draw_seeds(workflow: Workflow[Any], draw: Callable[[int], int]) -> dict[str, int]:
    """Return the seed of each seed field: the caller's, else a drawn one.

    Args:
        workflow: The workflow with its values.
        draw: Returns a random number from 0 to its argument, inclusive.
    """
    seeds: dict[str, int] = {}
    for spec in workflow.__workflow__.inputs:
        if spec.kind == "seed":
            given, least = getattr(workflow, spec.name), int(spec.ge or 0)
            most = max(0, int(spec.le or 0) - least)
            seeds[spec.name] = least + draw(most) if given is None else given
    return seeds


def _targets(spec: InputSpec, nodes: Container[str]) -> list[Target]:
    return [target for target in spec.targets if target.node in nodes]


def _require_all(workflow: Workflow[Any], nodes: Container[str]) -> None:
    specs = [spec for spec in workflow.__workflow__.inputs if _targets(spec, nodes)]
    unset = [spec for spec in specs if getattr(workflow, spec.name) is UNSET]
    if unset:
        raise InputValueError(problems=[spec.make_problem("a value is required") for spec in unset])


def _set_images(graph: Graph, spec: InputSpec, value: Any, files: Mapping[str, str]) -> None:
    """Give each node of a field one of its images."""
    for number, target in enumerate(spec.targets):
        if target.node in graph:
            images = cast("tuple[ImageSource, ...]", value) if isinstance(value, tuple) else ()
            source = images[number] if images else b""
            name = files.get(_key(spec, number)) or source_name(source, f"{spec.name}.png")
            graph[target.node]["inputs"][target.input] = literal(name)


def _file_name(spec: InputSpec, value: Any, files: Mapping[str, str]) -> str:
    """Return the name of a file or folder on the server; before it is uploaded, the caller's."""
    if spec.kind == "folder":
        first = files.get(_key(spec, 0))
        return str(PurePosixPath(first).parent) if first else source_name(value, spec.name)
    return files.get(spec.name) or source_name(value, f"{spec.name}{_SUFFIXES[spec.kind]}")


def _key(spec: InputSpec, number: int) -> str:
    return f"{spec.name}[{number}]"


def _read(spec: InputSpec, source: Any) -> dict[str, InputFile]:
    """Return the files of one field by their keys."""
    if not spec.is_list:
        return {spec.name: _read_one(spec, source, cast("FileKind", spec.kind))}
    try:
        images = images_of(source, spec.count)
    except OSError as error:
        raise _unreadable(spec, error) from None
    except ValueError as error:
        raise _invalid(spec, source, error) from None
    read = [_read_one(spec, image, "image") for image in images]
    found = as_folder(read) if spec.kind == "folder" else read
    return {_key(spec, number): file for number, file in enumerate(found)}


def _read_one(spec: InputSpec, source: Any, kind: FileKind) -> InputFile:
    try:
        return read_input(source, kind)
    except OSError as error:
        raise _unreadable(spec, error) from None
    except ValueError as error:
        raise _invalid(spec, source, error) from None


def _unreadable(spec: InputSpec, error: OSError) -> InputFileError:
    reason = f"cannot read {error.filename or 'the file'}: {error.strerror or error}"
    return InputFileError(problems=[spec.make_problem(reason)])


def _invalid(spec: InputSpec, source: Any, error: ValueError) -> InputValueError:
    shown = f"{source}: " if isinstance(source, str) or hasattr(source, "__fspath__") else ""
    return InputValueError(problems=[spec.make_problem(f"{shown}{error}")])
