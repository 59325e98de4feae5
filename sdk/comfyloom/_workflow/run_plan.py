"""What one run does: the nodes that run, and the results that are wanted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import attrs

from comfyloom._core.suggestions import did_you_mean
from comfyloom._workflow import run_values
from comfyloom._workflow.files import InputFile
from comfyloom._workflow.graph import Graph, reachable_from
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas, pinned
from comfyloom._workflow.outputs import OutputSpec
from comfyloom._workflow.run_options import PromptFields, RunOptions, is_list_of_names, listed
from comfyloom._workflow.workflow import Result, Workflow
from comfyloom.errors import ConfigError, InputValueError

_NAME: Final = re.compile(r"[^/\\\x00-\x1f\x7f:*?\"<>|\ud800-\udfff]{1,120}")
ResultT = TypeVar("ResultT", bound=Result)


@attrs.frozen(kw_only=True)
class RunPlan(Generic[ResultT]):
    """A workflow with its values, and what is wanted of it.

    Attributes:
        workflow: The workflow.
        nodes: The nodes that run.
        outputs: The results that are wanted.
        fields: What the prompt is posted with.
        upload_names: The names of input files on the server, by field.
        fresh: Whether it may work a second time for a file that the server has deleted.
    """

    workflow: Workflow[ResultT]
    nodes: frozenset[str]
    outputs: tuple[OutputSpec, ...]
    fields: PromptFields = attrs.field(factory=PromptFields)
    upload_names: Mapping[str, str] = attrs.field(factory=dict[str, str])
    fresh: bool = False

    @property
    def schemas(self) -> Schemas:
        """The schemas pinned with the workflow's class."""
        return schemas_of(self.workflow)

    @property
    def loaders(self) -> frozenset[str]:
        """The nodes that load uploaded files."""
        specs = self.workflow.__workflow__.inputs
        return frozenset(to.node for spec in specs if spec.is_file for to in spec.targets)

    def read_files(self) -> dict[str, InputFile]:
        """Read the input files that the run needs; see `run_values.read_files`.

        Raises:
            InputFileError: A file is missing or cannot be read.
            InputValueError: A file does not have the expected format, or required values are unset.
        """
        files = run_values.read_files(self.workflow, self.nodes)
        for field, name in self.upload_names.items():
            if field in files:
                # A folder of its own: two files may have the same name.
                folder = files[field].digest[:32]
                files[field] = attrs.evolve(files[field], own_name=name, folder=folder)
        return files

    def graph(self, files: Mapping[str, str], seeds: Mapping[str, int]) -> Graph:
        """Return the graph of the run; see `run_values.run_graph`."""
        return run_values.run_graph(self.workflow, files=files, seeds=seeds, nodes=self.nodes)


def plan_of(
    workflow: Workflow[ResultT],
    *,
    outputs: Sequence[str] | None = None,
    keep_all: Any = False,
    fresh: Any = False,
    upload_name: str | Mapping[str, str] | None = None,
    **fields: Any,
) -> RunPlan[ResultT]:
    """Return the plan for the options of a run; see `RunOptions`.

    Raises:
        InputValueError: `outputs` is empty, or names a result that the workflow does not have; or
            an upload has no valid name or field.
        ConfigError: Another option is invalid.
        TypeError: There is no such option.
    """
    options = tuple(RunOptions.__annotations__)
    for name in fields:
        if name not in (*options, "api_key"):
            raise TypeError(f"a run has no option {name!r}{did_you_mean(name, options)}")
    for name, value in (("keep_all", keep_all), ("fresh", fresh)):
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be True or False, got {value!r}")
    wanted = _wanted(workflow, outputs)
    view = GraphView(workflow.template_graph(), schemas_of(workflow))
    ends = [*(spec.node for spec in wanted), *workflow.__workflow__.keep]
    is_cut = bool(wanted) and not keep_all
    nodes = needed_for(ends, view) if is_cut else frozenset(view.graph)
    given = PromptFields(**fields)
    given.check_targets(nodes)
    return RunPlan(
        workflow=workflow,
        nodes=nodes,
        outputs=wanted,
        fields=given,
        upload_names=_upload_names(workflow, upload_name),
        fresh=fresh,
    )


def schemas_of(workflow: Workflow[Any]) -> Schemas:
    """Return the schemas pinned with a workflow's class, empty if there are none."""
    return pinned(sys.modules[type(workflow).__module__].__package__ or "")


def needed_for(ends: Iterable[str], view: GraphView) -> frozenset[str]:
    """Return the nodes that must be in the graph so that some of its nodes run.

    These are the nodes and all that they depend on. A server runs what its output nodes depend on;
    so a node that is none keeps the output nodes behind it.
    """
    behind = _consumers(view)
    needed: set[str] = set()
    for node in ends:
        if node not in view.graph:
            continue
        needed.add(node)
        schema = view.schema_of(node)
        if schema is None or not schema.is_output:
            after = reachable_from(behind[node], behind)
            needed |= {each for each in after if not behind[each]}
    return reachable_from(needed, view.links)


def _consumers(view: GraphView) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {node: [] for node in view.graph}
    for node, sources in view.links.items():
        for source in sources:
            found[source].append(node)
    return {node: tuple(nodes) for node, nodes in found.items()}


def _wanted(workflow: Workflow[Any], names: Sequence[str] | None) -> tuple[OutputSpec, ...]:
    specs = workflow.__workflow__.outputs
    if names is None:
        return specs
    wanted = listed(names)
    known = {spec.name: spec for spec in specs}
    choices = ", ".join(known) or "none"
    if not wanted or not is_list_of_names(wanted):
        raise InputValueError(f"outputs must be a list of results, of {choices}; got {names!r}")
    for name in wanted:
        if name not in known:
            hint = did_you_mean(str(name), tuple(known))
            raise InputValueError(f"outputs: {name!r} is not a result ({choices}){hint}")
    return tuple(spec for spec in specs if spec.name in wanted)


def _upload_names(workflow: Workflow[Any], given: Any) -> Mapping[str, str]:
    specs = workflow.__workflow__.inputs
    files = [spec.name for spec in specs if spec.is_file and not spec.is_list]
    if isinstance(given, str):
        if len(files) != 1:
            text = f"upload_name: give a name for each field, of {', '.join(files) or 'none'}"
            raise InputValueError(text)
        given = {files[0]: given}
    if not isinstance(given, Mapping | None):
        raise InputValueError(f"upload_name: expected a name, or one by field, got {given!r}")
    names = cast("Mapping[object, object]", given or {})
    for field, name in names.items():
        if field not in files:
            hint = did_you_mean(str(field), tuple(files))
            raise InputValueError(f"upload_name: {field!r} is not a file input{hint}")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.strip(" .") != name:
            raise InputValueError(f"upload_name: {name!r} is not the name of a file")
    return cast("Mapping[str, str]", names)
