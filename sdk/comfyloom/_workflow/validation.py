"""Whether a workflow can run, checked before anything is uploaded or launched.

The schemas are those in the package of the workflow's class: what its server had when the class was
generated. A node type that they lack, and a file or model that only a server can have, are left for
the server to judge.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Container
from typing import Any, Final

from comfyloom._core.redact import log
from comfyloom._workflow import run_values
from comfyloom._workflow.compatibility import Incompatibility, compare
from comfyloom._workflow.graph import check_graph, cycle_in
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas, pinned
from comfyloom._workflow.page_syntax import page_syntax
from comfyloom._workflow.run_values import ALL
from comfyloom._workflow.workflow import Workflow
from comfyloom.errors import GraphError

_SOURCE: Final = (
    "checked against the schemas pinned with its class; `comfyloom codegen schemas` updates them"
)
_OF_THE_SERVER: Final = ("node", "model")


def validate(workflow: Workflow[Any], nodes: Container[str] = ALL) -> None:
    """Refuse a workflow that no server can run.

    Args:
        workflow: The workflow.
        nodes: The nodes that run.

    Raises:
        InputValueError: Required values are unset.
        GraphError: Its graph cannot run; the message and `problems` have everything that is wrong.
    """
    graph = run_values.run_graph(workflow, files={}, seeds={}, nodes=nodes)
    check_graph(graph)
    for text in page_syntax(graph):
        _warn_once(text)
    view = GraphView(graph, pinned(sys.modules[type(workflow).__module__].__package__ or ""))
    needed = {node: links for node, links in view.links.items() if node in view.needed}
    if cycle := cycle_in(needed):
        text = f"nodes {' → '.join(cycle)} form a cycle"
        raise GraphError(text, node=cycle[0], problems=[text])
    specs = workflow.__workflow__.inputs
    files = {(to.node, to.input) for spec in specs if spec.is_file for to in spec.targets}
    if found := problems_of(view, frozenset(files)):
        problems = [str(each) for each in found]
        text = f"{'; '.join(problems)} ({_SOURCE})"
        raise GraphError(text, node=found[0].node, problems=problems)


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def problems_of(
    view: GraphView, free: frozenset[tuple[str, str]] = frozenset()
) -> list[Incompatibility]:
    """Return why a graph cannot run with these node schemas: types, ranges, choices, links.

    Args:
        view: The graph, and the known schemas of its node types.
        free: Inputs, as (node id, input name), whose value is set for each run.
    """
    return [
        each
        for each in compare(view, Schemas({}), free)
        if each.node in view.needed and each.is_fatal and not _is_for_the_server(each, view)
    ]


def _is_for_the_server(found: Incompatibility, view: GraphView) -> bool:
    """Return whether only the server can decide: its packs, and the files in its folders."""
    schema = view.schemas.input(found.class_type, found.input)
    is_of_a_machine = found.kind == "choice" and schema is not None and schema.choices is None
    return found.kind in _OF_THE_SERVER or is_of_a_machine
