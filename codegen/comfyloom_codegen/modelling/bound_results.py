"""The results and stages of a workflow with a binding: each entry resolved against the graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from comfyloom._workflow.graph import Graph
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.outputs import OUTPUT_TYPES, OutputSpec
from comfyloom.progress import Stage
from comfyloom_codegen.bindings.entries import ResultEntry, Selector, StageEntry
from comfyloom_codegen.bindings.selectors import NodeIndex
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.batches import is_batch
from comfyloom_codegen.modelling.docs import node_doc
from comfyloom_codegen.modelling.infer import NodeOutput, node_output
from comfyloom_codegen.modelling.model import ResultField
from comfyloom_codegen.modelling.resolve_each import EntryError, check_name, resolve_each
from comfyloom_codegen.names import RESULT_NAMES, PythonName
from comfyloom_codegen.problems import ProblemLog

_BARE_FILE: Final = re.compile(r"[^./\\\x00-\x1f:*?\"<>|][^/\\\x00-\x1f:*?\"<>|]*")


class ResultBinder:
    """Resolves the results and stages of one binding; errors and warnings are added to a log."""

    def __init__(self, graph: Graph, schemas: Schemas, problems: ProblemLog) -> None:
        self._graph = graph
        self._schemas = schemas
        self._problems = problems
        self._nodes = NodeIndex(graph)

    def results(self, entries: Mapping[str, ResultEntry]) -> tuple[ResultField, ...]:
        """Return the fields of the result class; without entries, one for each end node."""
        if not entries:
            return unbound.results(self._graph, self._schemas)
        return resolve_each(self._problems, "results", entries.items(), self._result)

    def stages(self, entries: Iterable[StageEntry]) -> tuple[Stage, ...]:
        """Return the stages of a run."""
        named = [(entry.name, entry) for entry in entries]
        stages = resolve_each(self._problems, "stages", named, self._stage)
        nodes = [node for stage in stages for node in stage.nodes]
        for node in dict.fromkeys(nodes):
            if nodes.count(node) > 1:
                self._problems.error("the node is in several stages", node=node, field="stages")
        return stages

    def kept(self, entries: Iterable[Selector]) -> tuple[str, ...]:
        """Return the nodes that run although no result needs them."""
        named = [(str(entry), entry) for entry in entries]
        return resolve_each(self._problems, "keep", named, lambda _, entry: self._nodes.find(entry))

    def _result(self, name: str, entry: ResultEntry) -> ResultField:
        check_name(name, RESULT_NAMES)
        node = self._nodes.find(entry.node)
        class_type = self._graph[node]["class_type"]
        known = node_output(class_type, entry.kind)
        schema = self._schemas.node(class_type)
        if schema and not schema.is_output:
            reason = f"{class_type} is not an output node and may report nothing"
            self._problems.warn(reason, node=node, field=f"results.{name}")
        if known.kind == "image" and not entry.many and is_batch(self._graph, node, self._schemas):
            reason = "the node saves a batch, of which this is the first picture: many = true"
            self._problems.warn(reason, node=node, field=f"results.{name}")
        spec = OutputSpec(
            kind=known.kind,
            node=node,
            key=entry.key or known.key,
            file=_file_name(name, entry, known),
            many=entry.many,
            required=_is_required(entry, known),
            name=name,
        )
        doc = node_doc(entry.doc or unbound.RESULT_DOCS[known.kind], [node], self._graph)
        return ResultField(name=PythonName(name), spec=spec, doc=doc)

    def _stage(self, name: str, entry: StageEntry) -> Stage:
        if entry.share <= 0:
            raise EntryError("share must be greater than 0")
        return Stage(name, tuple(map(self._nodes.find, entry.nodes)), entry.share)


def _file_name(name: str, entry: ResultEntry, known: NodeOutput) -> str:
    if known.kind in OUTPUT_TYPES:
        file = entry.file or ("" if known.kind == "file" else f"{name}{known.suffix}")
        if file and not _BARE_FILE.fullmatch(file):
            raise EntryError(f"{file!r} is not a file name")
        return file
    if entry.file:
        raise EntryError(f"a result of kind {known.kind} is not a file: remove file")
    return ""


def _is_required(entry: ResultEntry, known: NodeOutput) -> bool:
    if known.kind == "json" and (entry.required or entry.many):
        raise EntryError("a result of kind json is returned as it is: remove required and many")
    return known.kind not in ("file", "json") if entry.required is None else entry.required
