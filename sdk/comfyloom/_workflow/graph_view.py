"""A graph beside the schemas of its nodes: links and needed nodes, each computed once."""

from __future__ import annotations

from functools import cached_property

import attrs

from comfyloom._workflow.graph import Graph, Links, links_of, reachable_from
from comfyloom._workflow.node_schemas import NodeSchema, Schemas


@attrs.frozen
class GraphView:
    """One view of a graph for everything that judges it.

    Args:
        graph: The graph, in API format; each node has its `class_type` and `inputs`.
        schemas: What is known of its node types.
    """

    graph: Graph
    schemas: Schemas

    def schema_of(self, node: str) -> NodeSchema | None:
        """Return the schema of a node's type, None if it is unknown."""
        return self.schemas.node(str(self.graph[node].get("class_type")))

    @cached_property
    def links(self) -> Links:
        """The nodes that each node is linked to."""
        return links_of(self.graph)

    @cached_property
    def needed(self) -> frozenset[str]:
        """The nodes that a server would run: those that its output nodes need.

        A node of unknown type counts as an output node.
        """
        schemas = {node: self.schema_of(node) for node in self.graph}
        ends = [node for node, schema in schemas.items() if schema is None or schema.is_output]
        return reachable_from(ends, self.links)
