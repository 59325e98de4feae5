"""The public names of a workflow without a binding, derived from each node alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom._workflow.input_spec import InputSpec, Target
from comfyloom._workflow.node_schemas import InputSchema, Schemas
from comfyloom._workflow.outputs import OutputKind, OutputSpec
from comfyloom_codegen.bindings.selectors import Address, title_of
from comfyloom_codegen.modelling.batches import is_batch
from comfyloom_codegen.modelling.docs import field_doc, field_summary, humanised, node_doc
from comfyloom_codegen.modelling.infer import (
    Facts,
    facts_of,
    is_ui_state,
    kind_of,
    node_output,
    seed_limit,
)
from comfyloom_codegen.modelling.model import InputField, ResultField
from comfyloom_codegen.names import (
    RESULT_NAMES,
    WORKFLOW_NAMES,
    PythonName,
    distinct,
    python_name,
    snake,
)
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.reading.graphs import is_public_literal, unwrapped

RESULT_DOCS: Final[dict[OutputKind, str]] = {
    "image": "The picture",
    "animation": "The animated picture",
    "video": "The video",
    "audio": "The sound",
    "mesh": "The mesh",
    "file": "The file",
    "text": "The text",
    "json": "What the node reports",
}

MANY_DOC: Final = "The pictures of the batch"

_MAX_NODE: Final = 32
_MAX_ID: Final = 12


def node_names(graph: Graph) -> dict[str, str]:
    """Return a name for each node: its title, else its type; with its id if that is not unique."""
    plain = {node: _node_name(entry) for node, entry in graph.items()}
    candidates = [(name, _with_id(name, node)) for node, name in plain.items()]
    return dict(zip(graph, distinct(candidates), strict=True))


def _node_name(entry: Mapping[str, Any]) -> str:
    title, class_type = title_of(entry), entry["class_type"]
    return snake(title, _MAX_NODE) or snake(class_type, _MAX_NODE) or "node"


def _with_id(name: str, node: str) -> str:
    return f"{name}_{snake(node, _MAX_ID) or 'x'}"


def fields(
    graph: Graph,
    schemas: Schemas,
    problems: ProblemLog,
    is_wanted: Callable[[Address], bool] = lambda _: True,
) -> tuple[InputField, ...]:
    """Return a field for each wanted input that holds a value.

    The name of a field does not depend on which inputs are wanted.
    """
    names = node_names(graph)
    addresses = list(_public_inputs(graph, problems))
    candidates = [_name_candidates(graph, names, address) for address in addresses]
    return tuple(
        _field(graph, address, PythonName(name), schemas, problems)
        for address, name in zip(addresses, distinct(candidates, _field_name), strict=True)
        if is_wanted(address)
    )


def public_inputs(graph: Graph) -> list[Address]:
    """Return the node inputs that can be public: values, without the state of the web UI."""
    return list(_public_inputs(graph, ProblemLog("")))


def _public_inputs(graph: Graph, problems: ProblemLog) -> Iterator[Address]:
    for node, entry in graph.items():
        names = [
            name
            for name, value in entry["inputs"].items()
            if is_public_literal(value) and not is_ui_state(name)
        ]
        if names and "\\" in node:
            problems.warn("its values are not public: its id contains a backslash", node=node)
        else:
            yield from ((node, name) for name in names)


def _name_candidates(graph: Graph, names: Mapping[str, str], address: Address) -> tuple[str, ...]:
    """Return candidate names of an input: by node, by node and id, by node, id and position."""
    node, name = address
    word = snake(name, _MAX_NODE) or "input"
    position = list(graph[node]["inputs"]).index(name) + 1
    plain = _node_name(graph[node])
    own = _with_id(plain, node) if names[node] == plain else names[node]
    return f"{names[node]}_{word}", f"{own}_{word}", f"{own}_{word}_{position}"


@functools.lru_cache(maxsize=4096)
def _field_name(text: str) -> str:
    return python_name(text, reserved=WORKFLOW_NAMES)


def _field(
    graph: Graph, address: Address, name: PythonName, schemas: Schemas, problems: ProblemLog
) -> InputField:
    node, key = address
    class_type, sample = graph[node]["class_type"], unwrapped(graph[node]["inputs"][key])
    schema = schemas.input(class_type, key)
    kind = kind_of(class_type, key, sample, schema)
    spec = _spec(name, address, facts_of(kind, [schema]), schema)
    default = None if spec.is_file or kind == "seed" else sample
    problem = spec.problem(default)
    if problem:
        reason = f"the value violates its schema, but is kept: {problem.reason}"
        problems.warn(reason, node=node)
        spec = attrs.evolve(spec, ge=None, le=None)
    summary = field_summary(humanised(key), spec, default)
    doc = field_doc(summary, spec, graph)
    return InputField(name=name, spec=spec, default=default, summary=summary, doc=doc)


def _spec(
    name: PythonName, address: Address, facts: Facts, schema: InputSchema | None
) -> InputSpec:
    le = facts.le
    if facts.kind == "seed":
        le = seed_limit(schema)
    return InputSpec(
        kind=facts.kind,
        targets=(Target(*address),),
        ge=facts.ge,
        le=le,
        choices=facts.choices,
        name=name,
    )


def results(graph: Graph, schemas: Schemas) -> tuple[ResultField, ...]:
    """Return a result for each end node."""
    names = node_names(graph)
    nodes = end_nodes(graph, schemas)
    candidates = [(python_name(names[node], reserved=RESULT_NAMES),) for node in nodes]
    return tuple(
        _result(graph, node, PythonName(name), schemas)
        for node, name in zip(nodes, distinct(candidates), strict=True)
    )


def end_nodes(graph: Graph, schemas: Schemas) -> list[str]:
    """Return the end nodes: output nodes, and nodes without a schema that no other node uses."""
    linked = {
        value[0]
        for entry in graph.values()
        for value in entry["inputs"].values()
        if is_link_shaped(value)
    }

    def is_end(node: str) -> bool:
        class_type = graph[node]["class_type"]
        schema = schemas.node(class_type)
        if schema:
            return schema.is_output
        return node not in linked or node_output(class_type) != node_output("")

    return [node for node in graph if is_end(node)]


def _result(graph: Graph, node: str, name: PythonName, schemas: Schemas) -> ResultField:
    known = node_output(graph[node]["class_type"])
    is_known = known != node_output("")
    spec = OutputSpec(
        kind=known.kind,
        node=node,
        key=known.key,
        file=f"{name}{known.suffix}" if is_known and known.kind != "text" else "",
        many=known.kind == "image" and is_batch(graph, node, schemas),
        required=is_known,
        name=name,
    )
    text = MANY_DOC if spec.many else RESULT_DOCS[known.kind]
    return ResultField(name=name, spec=spec, doc=node_doc(text, [node], graph))
