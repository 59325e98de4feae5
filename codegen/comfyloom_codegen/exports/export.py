"""The previous export of a workflow, read back from the package generated from it."""

from __future__ import annotations

import json
from typing import Self, cast

import attrs

from comfyloom._workflow.graph import Graph
from comfyloom_codegen.bindings.parsing import parse_binding
from comfyloom_codegen.exports.changes import Change, changes
from comfyloom_codegen.exports.matching import Match, match
from comfyloom_codegen.exports.previous_module import PreviousModule, read_previous
from comfyloom_codegen.exports.rebinding import RewrittenBinding, rewrite_binding
from comfyloom_codegen.modelling.model import Module
from comfyloom_codegen.printing.generated_module import GeneratedModule
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.reading.files import WorkflowSource


@attrs.frozen(kw_only=True)
class PreviousExport:
    """The previous export of a workflow, matched with the new one.

    Attributes:
        module: The public names of the module generated from it.
        graph: Its nodes.
        matches: The new node of each of its nodes.
    """

    module: PreviousModule
    graph: Graph
    matches: dict[str, Match]

    @classmethod
    def of(cls, generated: GeneratedModule, graph: Graph) -> Self | None:
        """Return the export that a module was generated from, None if it cannot be read.

        Args:
            generated: The module generated from the previous export.
            graph: The graph of the new export.
        """
        try:
            module = read_previous(generated.text)
            before = cast("Graph", json.loads(generated.graph))
            matches = match(before, graph)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None  # the package was edited
        return cls(module=module, graph=before, matches=matches) if module else None

    def rewrite_binding(self, source: WorkflowSource) -> RewrittenBinding | None:
        """Return the binding rewritten for the new export, None if there is nothing to rewrite."""
        if source.binding is None:
            return None
        binding = parse_binding(source.binding, source.file, ProblemLog(source.file))
        if binding is None:
            return None
        return rewrite_binding(
            source.binding, binding, self.module, self.graph, source.graph, self.matches
        )

    def changes(self, module: Module) -> tuple[Change, ...]:
        """Return the changes for callers of the module."""
        return changes(self.module, self.graph, module, self.matches)
