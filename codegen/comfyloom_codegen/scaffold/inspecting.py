"""What a workflow file holds, for people who write a binding: nodes, inputs, links, hazards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs

from comfyloom._workflow.graph import Graph, cycle_in, is_link_shaped, unused_nodes
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.validation import problems_of
from comfyloom_codegen.bindings.selectors import title_of
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.build import build
from comfyloom_codegen.modelling.infer import is_page_state
from comfyloom_codegen.modelling.model import Module
from comfyloom_codegen.problems import Findings
from comfyloom_codegen.reading.files import Source

_EXACT: Final = 2**53


@attrs.frozen(kw_only=True)
class InspectedInput:
    """One input of a node: a value or a link, and the public name that leads to it."""

    name: str
    value: Any = None
    link: str = ""
    public: str = ""


@attrs.frozen(kw_only=True)
class InspectedNode:
    """One node: what it is, what it holds, and the result that it gives."""

    id: str
    class_type: str
    title: str
    inputs: tuple[InspectedInput, ...]
    result: str = ""


@attrs.frozen(kw_only=True)
class Inspection:
    """A whole workflow file.

    Attributes:
        file: Its name.
        workflow: The name of its class, "" if none can be made.
        nodes: Its nodes, in the order of the file.
        hazards: What its author should know, one line each.
    """

    file: str
    workflow: str
    nodes: tuple[InspectedNode, ...]
    hazards: tuple[str, ...]


def inspect(source: Source, schemas: Schemas, findings: Findings) -> Inspection:
    """Return what a workflow file holds.

    Args:
        source: The file.
        schemas: The schemas of its nodes, as far as they are known.
        findings: What is wrong with it so far.
    """
    module = build(source, schemas, findings)
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
    told = [str(problem).partition(": ")[2] for problem in findings.problems]
    return Inspection(
        file=source.file,
        workflow=str(module.workflow) if module else "",
        nodes=nodes,
        hazards=(*told, *_hazards(source.graph, schemas, module)),
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
    if loop := cycle_in(graph):
        yield f"nodes {' → '.join(loop)} wait for each other: the workflow cannot run"
    for node in unused_nodes(graph, unbound.ends(graph, schemas)):
        yield f"node {node} ({graph[node]['class_type']}) is needed by no output node"
    titles = Counter(title for entry in graph.values() if (title := title_of(entry)))
    for title, times in titles.items():
        if times > 1:
            yield f"{times} nodes have the title {title!r}: names by rule carry their ids"
    for node, entry in graph.items():
        for name, value in entry["inputs"].items():
            yield from _hazards_of_input(node, name, value)
    if not schemas.names:
        yield "no node schemas are pinned: types are guessed (comfyloom codegen schemas)"
        return
    free = frozenset(
        (target.node, target.input)
        for field in (module.fields if module else ())
        if field.spec.required or field.spec.is_file
        for target in field.spec.targets
    )
    yield from map(str, problems_of(graph, schemas, free))
    unknown = sorted({each["class_type"] for each in graph.values()} - set(schemas.names))
    if unknown:
        yield f"not pinned, so guessed: {', '.join(unknown)} (comfyloom codegen schemas)"


def _hazards_of_input(node: str, name: str, value: object) -> Iterator[str]:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        yield f"node {node}: input {name!r} is beyond 2^53: some JSON readers change it"
    elif is_page_state(name):
        yield f"node {node}: input {name!r} is state of ComfyUI's page, and not public"
