"""A workflow that was exported again, beside what was generated from the export before."""

from __future__ import annotations

import json
from typing import Self, cast

import attrs

from comfyloom._workflow.graph import Graph
from comfyloom_codegen.bindings.parsing import parse_binding
from comfyloom_codegen.exports.changes import Change, changes
from comfyloom_codegen.exports.matching import Match, match
from comfyloom_codegen.exports.previous_module import Former, read_former
from comfyloom_codegen.exports.rebinding import Rebound, rebind
from comfyloom_codegen.modelling.model import Module
from comfyloom_codegen.printing.generated_module import Printed
from comfyloom_codegen.problems import Findings
from comfyloom_codegen.reading.files import Source


@attrs.frozen(kw_only=True)
class Export:
    """The export before, and where its nodes are now."""

    former: Former
    graph: Graph
    matches: dict[str, Match]

    @classmethod
    def of(cls, there: Printed, graph: Graph) -> Self | None:
        """Return the export that a module was made from, None if it cannot be read any more.

        Args:
            there: What was generated from it.
            graph: The graph now.
        """
        try:
            former = read_former(there.text)
            before = cast("Graph", json.loads(there.graph))
            matches = match(before, graph)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None  # somebody has edited it
        return cls(former=former, graph=before, matches=matches) if former else None

    def rebound(self, source: Source) -> Rebound | None:
        """Return the binding of a workflow with the selectors that it needs now, None if none."""
        if source.binding is None:
            return None
        binding = parse_binding(source.binding, source.file, Findings(source.file))
        if binding is None:
            return None
        return rebind(source.binding, binding, self.former, self.graph, source.graph, self.matches)

    def changes(self, module: Module) -> tuple[Change, ...]:
        """Return what has changed for callers."""
        return changes(self.former, self.graph, module, self.matches)
