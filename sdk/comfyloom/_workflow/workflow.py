"""The base classes of generated workflows and of their results."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
)

import attrs

from comfyloom._core.suggestions import did_you_mean
from comfyloom._workflow import inputs, outputs, run_values
from comfyloom._workflow.graph import Graph
from comfyloom._workflow.input_spec import METADATA, MISSING, UNSET, InputSpec
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.errors import GraphError, InputValueError
from comfyloom.progress import Stage

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
W = TypeVar("W", bound="Workflow[Any]")
R = TypeVar("R", bound="Result")
ResultT_co = TypeVar("ResultT_co", bound="Result", covariant=True)


if TYPE_CHECKING:
    chainable = classmethod
else:

    class chainable:  # noqa: N801 - used like `classmethod`
        """A method that can be called on the class and on an instance.

        Its first argument is the class or the instance. To type checkers it is a `classmethod`,
        which gives both calls the right type.
        """

        def __init__(self, function: Callable[..., Any]) -> None:
            self._function = function
            functools.update_wrapper(self, function)

        def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
            return self._function.__get__(owner if instance is None else instance)


@attrs.frozen(kw_only=True)
class WorkflowSpec:
    """The declaration of a generated workflow class.

    Attributes:
        graph: The name of the JSON file with the graph, beside the class's module.
        command: The name of the workflow on the command line.
        stages: Its parts in the order of execution, for progress.
        inputs: Its public inputs.
        outputs: Its public outputs.
        keep: Nodes that always run, for their side effects.
        runs_on: The saved workflow whose machines it runs on, "" for the one of its own name.
        result: The class of its results.
    """

    graph: str
    command: str
    stages: tuple[Stage, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    result: type[Result]
    keep: tuple[str, ...] = ()
    runs_on: str = ""

    @property
    def saved_name(self) -> str:
        """The name of the workflow in the account whose machines it runs on."""
        return self.runs_on or self.name

    @property
    def name(self) -> str:
        """The name of the workflow file, without its suffix."""
        return self.graph.rpartition(".")[0]


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(
        outputs.image,
        outputs.animation,
        outputs.video,
        outputs.audio,
        outputs.mesh,
        outputs.file,
        outputs.text,
        outputs.json,
    ),
)
def result_class(cls: type[R]) -> type[R]:
    """Make a result class: frozen, keyword-only, with fields declared by `outputs`."""
    return attrs.frozen(kw_only=True)(cls)


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(
        inputs.image,
        inputs.mask,
        inputs.images,
        inputs.folder,
        inputs.audio,
        inputs.video,
        inputs.file,
        inputs.text,
        inputs.seed,
        inputs.number,
        inputs.integer,
        inputs.flag,
        inputs.choice,
        inputs.value,
    ),
)
def workflow_class(
    *,
    graph: str,
    command: str,
    stages: tuple[Stage, ...] = (),
    keep: tuple[str, ...] = (),
    runs_on: str = "",
) -> Callable[[type[W]], type[W]]:
    """Make a workflow class: frozen, keyword-only, with fields declared by `inputs`.

    Args:
        graph: The name of the JSON file with the graph, beside the class's module.
        command: The name of the workflow on the command line.
        stages: Its parts in the order of execution, for progress.
        keep: Nodes that always run, for their side effects.
        runs_on: The saved workflow whose machines it runs on; by default the one of its own name.
    """

    def decorate(cls: type[W]) -> type[W]:
        decorated = attrs.frozen(kw_only=True)(cls)
        (base,) = (b for b in vars(decorated)["__orig_bases__"] if get_args(b))
        result = cast("type[Result]", get_args(base)[0])
        decorated.__workflow__ = WorkflowSpec(
            graph=graph,
            command=command,
            stages=stages,
            inputs=_specs(decorated, METADATA),
            outputs=_specs(result, outputs.METADATA),
            result=result,
            keep=keep,
            runs_on=runs_on,
        )
        return decorated

    return decorate


def _specs(cls: type[Any], key: str) -> tuple[Any, ...]:
    fields = cast("tuple[attrs.Attribute[Any], ...]", attrs.fields(cls))
    return tuple(
        attrs.evolve(field.metadata[key], name=field.name)
        for field in fields
        if key in field.metadata
    )


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _base_result(cls: type[T]) -> type[T]:
    return attrs.frozen(kw_only=True)(cls)


@_base_result
class Result:
    """The result of one run; a generated class adds a field for each output."""

    prompt_id: str = ""
    """The id of the run on its server."""
    seeds: Mapping[str, int] = attrs.field(factory=dict[str, int])
    """The seeds of the run by field: the caller's, or the ones drawn for this run."""
    seconds: float = 0.0
    """Seconds from the submission to the last file on this computer."""
    ui: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]], repr=False)
    """Everything that the nodes reported, unchanged: by node id, then by the node's keys."""

    @property
    def seed(self) -> int | None:
        """The first seed of the run, None if its workflow has none."""
        return next(iter(self.seeds.values()), None)

    def place(
        self, targets: Mapping[str, str | os.PathLike[str] | Sequence[str | os.PathLike[str]]]
    ) -> None:
        """Copy files to paths of your own, all or none; each replaces what is there at once.

        Args:
            targets: Absolute paths by field, such as `{"image": "/show/wall.png"}`; for a field
                with several files as many. Their folders are created.

        Raises:
            InputValueError: A field or path is invalid; nothing was written.
            OutputNotWritable: A file cannot be written; everything is as it was.
        """
        from comfyloom._workflow.placing import place_all

        place_all(_placements(self, targets))


class Workflow(Generic[ResultT_co]):
    """A ComfyUI workflow with its values; immutable.

    The constructor requires all required values. A chain of `with_…()` calls, which may start on
    the class, leaves the others unset until the workflow runs:

        FluxMeshWorkflow(input_image="render.png", prompt="a brass automaton")
        FluxMeshWorkflow.with_input_image("render.png").with_prompt("a brass automaton")

    Raises:
        InputValueError: A value is missing, of the wrong type or out of range; it lists them all.
    """

    __slots__ = ()

    __workflow__: ClassVar[WorkflowSpec]

    def __attrs_post_init__(self) -> None:
        """Check every value."""
        found = [spec.problem(getattr(self, spec.name)) for spec in self.__workflow__.inputs]
        if problems := [problem for problem in found if problem is not None]:
            raise InputValueError(problems=problems)

    @classmethod
    def template_graph(cls) -> Graph:
        """Return the graph of the workflow file, unchanged; each call returns a new copy.

        Raises:
            GraphError: The package was built without the file.
        """
        package = sys.modules[cls.__module__].__package__ or ""
        return cast("Graph", json.loads(_graph_text(package, cls.__workflow__.graph)))

    def to_graph(self) -> Graph:
        """Return the graph with the values set, in API format.

        No file is opened and no seed is drawn: the graph has the local name of a file, and the
        workflow file's seed if the seed is None. A run replaces them with the uploaded name and
        the drawn seed.

        Raises:
            InputValueError: Required values are unset; it lists them all.
        """
        return run_values.run_graph(self, files={}, seeds={})

    @chainable
    def _with(cls, name: str, value: object) -> Self:
        return cast("Self", _changed(cls, name, value))


def _placements(result: Result, targets: object) -> list[tuple[Path, Path]]:
    if not isinstance(targets, Mapping):
        raise InputValueError(f"place: expected paths by field, got {targets!r}")
    found: list[tuple[Path, Path]] = []
    known = [spec.name for spec in _specs(type(result), outputs.METADATA)]
    for name, given in cast("Mapping[object, object]", targets).items():
        if name not in known:
            raise InputValueError(
                f"place: {name!r} is not a result{did_you_mean(str(name), known)}"
            )
        value = getattr(result, str(name))
        files = cast("tuple[object, ...]", value if isinstance(value, tuple) else (value,))
        paths = cast("Sequence[object]", given if isinstance(given, list | tuple) else [given])
        sources = [file.path for file in files if isinstance(file, outputs.Output)]
        if len(sources) < len(files):
            raise InputValueError(f"place: {name} is not a file, but {value!r}")
        if len(paths) != len(sources):
            raise InputValueError(f"place: {name} has {len(files)} files, got {len(paths)} paths")
        found += zip(sources, map(_target, paths), strict=True)
    # Two spellings, or a link to a folder, may name one file.
    real = [os.path.normcase(Path(os.path.realpath(path.parent), path.name)) for _, path in found]
    if len(set(real)) < len(real):
        raise InputValueError("place: two files have the same path")
    return found


def _target(given: object) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise InputValueError(f"place: expected a path, got {given!r}")
    path = Path(cast("str | os.PathLike[str]", given))
    if not path.is_absolute() or not path.name or "\0" in str(path):
        raise InputValueError(f"place: {str(path)!r} is not an absolute path of a file")
    return path


def _changed(base: type[Workflow[Any]] | Workflow[Any], name: str, value: object) -> object:
    if not isinstance(base, type):
        return cast("object", attrs.evolve(cast("Any", base), **{name: value}))
    unset = {spec.name: UNSET for spec in base.__workflow__.inputs if spec.required}
    return base(**{**unset, name: value})


@functools.cache
def _graph_text(package: str, file: str) -> str:
    from importlib.resources import files

    try:
        return files(package).joinpath(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        text = f"the package {package} was built without its {file}: add *.json to package data"
        raise GraphError(text) from None


__all__ = ["MISSING", "UNSET", "Result", "Workflow", "chainable", "result_class", "workflow_class"]
