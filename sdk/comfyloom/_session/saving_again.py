"""Files that the server has deleted, of nodes that it still has in its cache."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import attrs

from comfyloom._comfyui.history import HistoryEntry
from comfyloom._workflow.graph import Graph, links_of, reachable_from
from comfyloom.errors import OutputGone


@attrs.frozen
class SavingAgain:
    """What makes a server save files once more.

    Attributes:
        graph: The graph to run.
        needs_free: Whether the server must forget its cache first: a saver has no file prefix that
            could be changed.
    """

    graph: Graph
    needs_free: bool

    @classmethod
    def of(
        cls,
        graph: Graph,
        savers: Sequence[str],
        entry: HistoryEntry,
        gone: OutputGone,
        *,
        fresh: bool,
    ) -> SavingAgain:
        """Return the graph in which only the savers run again, if all before them is cached.

        Args:
            graph: The graph of the run; its savers are changed.
            savers: The nodes that save wanted files.
            entry: Its history.
            gone: The file that is missing.
            fresh: Whether it may generate a second time.

        Raises:
            OutputGone: It would, and may not.
        """
        cached = [node for node in savers if node in entry.cached and node in graph]
        before = reachable_from(cached, links_of(graph))
        is_cheap = gone.node in cached and before <= entry.cached
        if not fresh and not (is_cheap and all(_prefix(graph, node) for node in cached)):
            raise gone
        needs_free = False
        for node in cached if is_cheap else savers:
            if prefix := _prefix(graph, node):
                graph[node]["inputs"]["filename_prefix"] = f"{prefix}_{uuid.uuid4().hex[:6]}"
            else:
                needs_free = True
        again = {node: graph[node] for node in graph if node in before} if is_cheap else graph
        return cls(again, needs_free)


def _prefix(graph: Graph, node: str) -> str:
    """Return the file prefix of a node, "" if it has none."""
    found = graph[node]["inputs"].get("filename_prefix")
    return found if isinstance(found, str) else ""
