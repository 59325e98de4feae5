"""Inspect a workflow file for the author of a binding: nodes, inputs, links, hazards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs

from comfyloom._workflow.graph import Graph, cycle_in, is_link_shaped, reachable_from
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.validation import problems_of
from comfyloom_codegen.bindings.selectors import title_of
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.build import build
from comfyloom_codegen.modelling.infer import is_ui_state
from comfyloom_codegen.modelling.model import Module
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.reading.files import WorkflowSource

_MAX_EXACT: Final = 2**53


@attrs.frozen(kw_only=True)
class InspectedInput:
    """One input of a node: its value or link, and its public name."""

    name: str
    value: Any = None
    link: str = ""
    public: str = ""


@attrs.frozen(kw_only=True)
class InspectedNode:
    """One node: its type, its inputs, and the public name of its result."""

    id: str
    class_type: str
    title: str
    inputs: tuple[InspectedInput, ...]
    result: str = ""


@attrs.frozen(kw_only=True)
class Inspection:
    """The contents of a workflow file.

    Attributes:
        file: Its name.
        workflow: The name of its class, "" if none can be generated.
        nodes: Its nodes, in the order of the file.
        hazards: Warnings for its author, one line each.
    """

    file: str
    workflow: str
    nodes: tuple[InspectedNode, ...]
    hazards: tuple[str, ...]


def inspect(source: WorkflowSource, schemas: Schemas, problems: ProblemLog) -> Inspection:
    """Return the contents of a workflow file and its hazards.

    Args:
        source: The file.
        schemas: The known schemas of its nodes.
        problems: The problems so far; more are added.
    """
    module = build(source, schemas, problems)
    inputs = {
        (target.node, target.input): str(field.name)
        for field in (module.fields if module else ())
        for target in field.spec.targets
    }
    results = {r.spec.node: str(r.name) for r in (module.results if module else ())}
    nodes = tuple(
        InspectedNode(
            id=node,
            class_type=entry["class_type"],
            title=title_of(entry),
            inputs=tuple(_inputs(source.graph, node, inputs)),
            result=results.get(node, ""),
        )
        for node, entry in source.graph.items()
    )
    reported = [str(problem).partition(": ")[2] for problem in problems.entries]
    return Inspection(
        file=source.file,
        workflow=str(module.workflow) if module else "",
        nodes=nodes,
        hazards=(*reported, *_hazards(source.graph, schemas, module)),
    )


def _inputs(
    graph: Graph, node: str, public: dict[tuple[str, str], str]
) -> Iterator[InspectedInput]:
    for name, value in graph[node]["inputs"].items():
        known = public.get((node, name), "")
        if is_link_shaped(value):
            yield InspectedInput(name=name, link=f"{value[0]}:{value[1]}", public=known)
        else:
            yield InspectedInput(name=name, value=value, public=known)


def _hazards(graph: Graph, schemas: Schemas, module: Module | None) -> Iterator[str]:
    view = GraphView(graph, schemas)
    if cycle := cycle_in(view.links):
        yield f"nodes {' → '.join(cycle)} form a cycle: the workflow cannot run"
    needed = reachable_from(unbound.end_nodes(graph, schemas), view.links)
    for node in (node for node in graph if node not in needed):
        yield f"node {node} ({graph[node]['class_type']}) is not used by any output node"
    titles = Counter(title for entry in graph.values() if (title := title_of(entry)))
    for title, times in titles.items():
        if times > 1:
            yield f"{times} nodes share the title {title!r}: their default names contain ids"
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            yield from _hazards_of_input(node, name, value)
    if not schemas.names:
        yield "no node schemas are pinned: types are guessed (comfyloom codegen schemas)"
        return
    caller_set = frozenset(
        (target.node, target.input)
        for field in (module.fields if module else ())
        if field.spec.required or field.spec.is_file
        for target in field.spec.targets
    )
    yield from map(str, problems_of(view, caller_set))
    unknown = sorted({each["class_type"] for each in graph.values()} - set(schemas.names))
    if unknown:
        yield f"not pinned, types are guessed: {', '.join(unknown)} (comfyloom codegen schemas)"


def _hazards_of_input(node: str, name: str, value: object) -> Iterator[str]:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_EXACT:
        yield f"node {node}: input {name!r} is above 2^53: some JSON parsers round it"
    elif is_ui_state(name):
        yield f"node {node}: input {name!r} only holds state of ComfyUI's web UI and is not public"
