"""A graph together with the schemas of its node types; links and needed nodes are cached."""

from __future__ import annotations

from functools import cached_property

import attrs

from comfyloom._workflow.graph import Graph, Links, links_of, reachable_from
from comfyloom._workflow.node_schemas import NodeSchema, Schemas


@attrs.frozen
class GraphView:
    """A graph and its schemas, shared by all checks of the graph.

    Args:
        graph: The graph, in API format; each node has a `class_type` and `inputs`.
        schemas: The known schemas of its node types.
    """

    graph: Graph
    schemas: Schemas

    def schema_of(self, node: str) -> NodeSchema | None:
        """Return the schema of a node's type, None if the type is unknown."""
        return self.schemas.node(str(self.graph[node].get("class_type")))

    @cached_property
    def links(self) -> Links:
        """The nodes that each node is linked to."""
        return links_of(self.graph)

    @cached_property
    def needed(self) -> frozenset[str]:
        """The nodes that a server would run: the output nodes and everything they depend on.

        A node of unknown type counts as an output node.
        """
        schemas = {node: self.schema_of(node) for node in self.graph}
        ends = [node for node, schema in schemas.items() if schema is None or schema.is_output]
        return reachable_from(ends, self.links)
