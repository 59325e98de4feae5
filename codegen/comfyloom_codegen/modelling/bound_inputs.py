"""The inputs of a workflow with a binding: each entry resolved against the graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from comfyloom._workflow.files import FILE_KINDS
from comfyloom._workflow.graph import Graph
from comfyloom._workflow.input_spec import MISSING, InputSpec, Kind, Target
from comfyloom._workflow.node_schemas import InputSchema, Schemas
from comfyloom_codegen.bindings.entries import Binding, InputEntry, PartEntry
from comfyloom_codegen.bindings.naming import best_target
from comfyloom_codegen.bindings.selectors import Address, NodeIndex, SelectorError
from comfyloom_codegen.bindings.toml_text import entry_value, toml
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.docs import field_doc, field_summary, humanised
from comfyloom_codegen.modelling.infer import (
    Facts,
    facts_of,
    fits,
    highest,
    kind_of,
    lowest,
    seed_limit,
)
from comfyloom_codegen.modelling.model import InputField
from comfyloom_codegen.modelling.resolve_each import EntryError, check_name, resolve_each
from comfyloom_codegen.names import WORKFLOW_NAMES, PythonName
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.reading.graphs import is_public_literal, unwrapped

NEVER_A_DEFAULT: Final = FILE_KINDS | {"seed"}


class InputBinder:
    """Resolves the inputs of one binding; errors and warnings are added to a log."""

    def __init__(self, graph: Graph, schemas: Schemas, problems: ProblemLog) -> None:
        self._graph = graph
        self._schemas = schemas
        self._problems = problems
        self._nodes = NodeIndex(graph)

    def fields(self, binding: Binding) -> tuple[InputField, ...]:
        """Return the fields of the workflow class: those with an entry, then the exposed ones."""
        fields = resolve_each(self._problems, "inputs", binding.inputs.items(), self._field)
        self._refuse_shared_targets(fields)
        return (*fields, *self._exposed(binding, fields))

    def _refuse_shared_targets(self, fields: Iterable[InputField]) -> None:
        taken: dict[Target, str] = {}
        for field in fields:
            for target in field.spec.targets:
                key = attrs.evolve(target, modulo=None)
                other = taken.setdefault(key, field.name)
                if other != field.name:
                    reason = f"{other} sets input {target.input!r} too"
                    self._problems.error(reason, node=target.node, field=f"inputs.{field.name}")

    def _exposed(self, binding: Binding, fields: Iterable[InputField]) -> tuple[InputField, ...]:
        by_rule = None if binding.inputs else [PartEntry(text="*")]
        wanted = self._parts("expose", by_rule if binding.expose is None else binding.expose)
        hidden = self._parts("hide", binding.hide)
        hidden |= {(to.node, to.input) for field in fields for to in field.spec.targets}
        rest = wanted - hidden
        if not rest:
            return ()
        exposed = unbound.fields(self._graph, self._schemas, self._problems, rest.__contains__)
        names = {field.name for field in fields}
        for field in exposed:
            if field.name in names:
                (target,) = field.spec.targets
                reason = f"input {target.input!r} is exposed under this name too: hide or rename it"
                self._problems.error(reason, node=target.node, field=f"inputs.{field.name}")
        return exposed

    def _parts(self, part: str, entries: Iterable[PartEntry] | None) -> set[Address]:
        named = [(f"[{index}]", entry) for index, entry in enumerate(entries or [])]
        found = resolve_each(
            self._problems, part, named, lambda _, entry: self._nodes.addresses(entry)
        )
        return {address for addresses in found for address in addresses}

    def _field(self, name: str, entry: InputEntry) -> InputField:
        check_name(name, WORKFLOW_NAMES, has_method=True)
        addresses = self._addresses(entry)
        facts = self._facts(entry, addresses)
        for address in addresses:
            self._check_kind(facts.kind, address)
        if facts.kind == "images" and len(addresses) == 1:
            raise EntryError('one node takes one image: set kind = "image", or list more in to')
        is_file = facts.kind in FILE_KINDS
        required = is_file if entry.required is None else entry.required
        spec = InputSpec(
            kind=facts.kind,
            targets=self._targets(addresses, facts.kind),
            required=required,
            ge=facts.ge,
            le=self._seed_limit(addresses[0], entry) if facts.kind == "seed" else facts.le,
            choices=facts.choices,
            name=name,
        )
        if spec.kind == "seed" and (spec.ge or 0) > (spec.le or 0):
            raise EntryError(f"no seed is at least {spec.ge or 0} and at most {spec.le}")
        default = self._default(entry, spec, addresses)
        problem = None if default is MISSING else spec.problem(default)
        free = attrs.evolve(spec, ge=None, le=None)
        is_from_file = (entry.default, entry.ge, entry.le) == (MISSING, None, None)
        if problem and is_from_file and free.problem(default) is None:
            # The value in the file violates the schema: warn, as without a binding.
            reason = f"the value violates its schema, but is kept: {problem.reason}"
            self._problems.warn(reason, node=spec.node, field=f"inputs.{name}")
            spec = free
        elif problem:
            raise EntryError(f"its default: {problem.reason}")
        summary = field_summary(entry.doc or humanised(name), spec, default)
        doc = field_doc(summary, spec, self._graph)
        return InputField(
            name=PythonName(name), spec=spec, default=default, summary=summary, doc=doc
        )

    def _addresses(self, entry: InputEntry) -> list[Address]:
        if not entry.to:
            raise EntryError("to is empty")
        addresses: list[Address] = []
        reasons: list[str] = []
        for target in entry.to:
            try:
                addresses.append(self._nodes.address(target))
            except SelectorError as error:
                reasons.append(str(error))
        reasons += [
            f"the node id {node!r} contains a backslash" for node, _ in addresses if "\\" in node
        ]
        if reasons:
            raise EntryError("\n".join(reasons))
        return list(dict.fromkeys(addresses))

    def _facts(self, entry: InputEntry, addresses: list[Address]) -> Facts:
        kind = entry.kind or self._kind(entry, addresses)
        if kind not in ("integer", "number", "seed") and (entry.ge, entry.le) != (None, None):
            raise EntryError(f"ge and le do not apply to the kind {kind}: remove them")
        found = facts_of(kind, map(self._schema, addresses))
        if kind == "choice":
            choices = tuple(entry.choices) or found.choices
            if not choices:
                raise EntryError("no schema lists its choices: list them here")
            return attrs.evolve(found, choices=choices)
        whole = kind != "number"
        low = lowest([found.ge, entry.ge], whole=whole)
        high = highest([found.le, entry.le], whole=whole)
        if low is not None and high is not None and low > high:
            raise EntryError(f"no value is at least {low} and at most {high}")
        return attrs.evolve(found, ge=low, le=high)

    def _kind(self, entry: InputEntry, addresses: list[Address]) -> Kind:
        if entry.choices:
            return "choice"
        kinds: set[Kind] = {self._kind_at(address) for address in addresses}
        if kinds == {"integer", "number"}:
            return "integer"
        if len(kinds) > 1:
            raise EntryError(f"its node inputs differ ({', '.join(sorted(kinds))}): set kind")
        return kinds.pop()

    def _kind_at(self, address: Address) -> Kind:
        class_type = self._graph[address[0]]["class_type"]
        return kind_of(class_type, address[1], self._sample(address), self._schema(address))

    def _check_kind(self, kind: Kind, address: Address) -> None:
        """Refuse a kind that the schema of the input excludes."""
        schema = self._schema(address)
        if schema is None or fits(kind, schema):
            return
        target = f"input {address[1]!r} of node {self._nodes.describe([address[0]])}"
        raise EntryError(f"the kind {kind} does not fit {target}, which takes {schema.type}")

    def _default(self, entry: InputEntry, spec: InputSpec, addresses: list[Address]) -> object:
        self._warn_of_links(spec, addresses)
        if entry.default is not MISSING:
            if spec.required or spec.kind in NEVER_A_DEFAULT:
                raise EntryError("a required value, a seed or a file cannot have a default")
            return entry.default
        if spec.kind == "seed" and spec.required:
            raise EntryError("a seed cannot be required: None draws one")
        if spec.required:
            return MISSING
        return None if spec.kind in NEVER_A_DEFAULT else self._common_value(addresses)

    def _warn_of_links(self, spec: InputSpec, addresses: list[Address]) -> None:
        for node, name in addresses:
            value = self._graph[node]["inputs"][name]
            if not is_public_literal(value):
                reason = (
                    f"input {name!r} is linked to {self._linked(value)}; a value replaces the link"
                )
                self._problems.warn(reason, node=node, field=f"inputs.{spec.name}")

    def _linked(self, value: list[Any]) -> str:
        node = str(value[0]) if value else ""
        return f"node {self._nodes.describe([node])}" if node in self._graph else repr(value)

    def _common_value(self, addresses: list[Address]) -> object:
        samples = [self._sample(address) for address in addresses]
        if MISSING in samples:
            hint = self._target_hint(addresses[samples.index(MISSING)])
            raise EntryError(
                f"its input is linked: {hint}set default, or required = true, to replace the link"
            )
        if any(_differ(samples[0], other) for other in samples[1:]):
            shown = ", ".join(map(_short, samples))
            raise EntryError(
                f"its node inputs hold different values ({shown}): set default, or required = true"
            )
        return samples[0]

    def _target_hint(self, address: Address) -> str:
        """Return a hint to target the value that feeds a linked input, if it is a single value."""
        link = self._graph[address[0]]["inputs"][address[1]]
        source = str(link[0]) if link else ""
        inputs: dict[str, Any] = self._graph[source]["inputs"] if source in self._graph else {}
        values = [name for name, value in inputs.items() if is_public_literal(value)]
        if len(values) != 1 or len(inputs) != 1:
            return ""
        target = toml(entry_value(best_target(self._nodes, (source, values[0]))))
        return f"target {target} instead, or "

    def _targets(self, addresses: list[Address], kind: Kind) -> tuple[Target, ...]:
        if kind != "seed":
            return tuple(Target(*address) for address in addresses)
        first = self._limit(addresses[0])
        limits = [(address, self._limit(address)) for address in addresses]
        return tuple(
            Target(*address, modulo=limit + 1 if limit < first else None)
            for address, limit in limits
        )

    def _seed_limit(self, address: Address, entry: InputEntry) -> int:
        limit = self._limit(address)
        return limit if entry.le is None else min(limit, int(entry.le))

    def _limit(self, address: Address) -> int:
        return seed_limit(self._schema(address))

    def _schema(self, address: Address) -> InputSchema | None:
        return self._schemas.input(self._graph[address[0]]["class_type"], address[1])

    def _sample(self, address: Address) -> object:
        value = self._graph[address[0]]["inputs"][address[1]]
        return unwrapped(value) if is_public_literal(value) else MISSING


def _differ(one: object, other: object) -> bool:
    return one != other or isinstance(one, bool) != isinstance(other, bool)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}…"
