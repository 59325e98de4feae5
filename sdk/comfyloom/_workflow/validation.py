"""Whether a workflow can run, found out before anything is uploaded or launched.

The schemas are those that the package of the workflow's class carries: what its server had when
the class was made. A class of nodes that they do not know, and a file or model that only the
server can have, are left for the server to judge.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from comfyloom._workflow.compatibility import Incompatibility, compare
from comfyloom._workflow.graph import Graph, check_graph, cycle_in, unused_nodes
from comfyloom._workflow.node_schemas import Schemas, pinned
from comfyloom._workflow.workflow import Workflow
from comfyloom.errors import GraphError

_SOURCE: Final = "as pinned with its class; `comfyloom codegen schemas` pins what a server says now"


def validate(workflow: Workflow[Any]) -> None:
    """Refuse a workflow that no server can run.

    Raises:
        InputValueError: Required values are unset.
        GraphError: Its graph cannot run; the message and `problems` have all that is wrong.
    """
    graph = workflow.to_graph()
    check_graph(graph)
    schemas = pinned(sys.modules[type(workflow).__module__].__package__ or "")
    if loop := cycle_in(needed_part(graph, schemas)):
        text = f"nodes {' → '.join(loop)} wait for each other"
        raise GraphError(text, node=loop[0], problems=[text])
    found = problems_of(graph, schemas, _files_of(workflow))
    if found:
        problems = [str(each) for each in found]
        text = f"{'; '.join(problems)} ({_SOURCE})"
        raise GraphError(text, node=found[0].node, problems=problems)


def problems_of(
    graph: Graph, schemas: Schemas, free: frozenset[tuple[str, str]] = frozenset()
) -> list[Incompatibility]:
    """Return why a graph cannot run on a server with such nodes: types, ranges, choices, links.

    Args:
        graph: The graph, in API format.
        schemas: What is known of its nodes.
        free: Inputs, as (node id, input name), whose value is set for each run.
    """
    needed = needed_part(graph, schemas)
    found = [each for each in compare(graph, schemas, Schemas({}), free) if each.node in needed]
    return [each for each in found if each.is_fatal and not _is_for_the_server(each, schemas)]


def needed_part(graph: Graph, schemas: Schemas) -> Graph:
    """Return the nodes that a server would look at: those that its output nodes need.

    A class that is not known may be one of output nodes.
    """
    known = {node: schemas.node(str(entry["class_type"])) for node, entry in graph.items()}
    ends = [node for node, schema in known.items() if schema is None or schema.is_output]
    unused = set(unused_nodes(graph, ends))
    return {node: entry for node, entry in graph.items() if node not in unused}


def _is_for_the_server(incompatibility: Incompatibility, schemas: Schemas) -> bool:
    """Return whether only the server itself can tell: what it has installed, and in its folders."""
    schema = schemas.input(incompatibility.class_type, incompatibility.input)
    is_of_a_machine = (
        incompatibility.kind == "choice" and schema is not None and schema.choices is None
    )
    return incompatibility.kind in ("node", "model") or is_of_a_machine


def _files_of(workflow: Workflow[Any]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (target.node, target.input)
        for spec in workflow.__workflow__.inputs
        if spec.is_file
        for target in spec.targets
    )
