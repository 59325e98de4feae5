"""From a workflow file, its binding and the schemas to the model of one module."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from comfyloom._workflow.graph import Graph, unused_nodes
from comfyloom._workflow.node_schemas import Schemas
from comfyloom_codegen.bindings.parsing import parse_binding
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.bound_inputs import InputBinder
from comfyloom_codegen.modelling.bound_results import ResultBinder
from comfyloom_codegen.modelling.model import Module
from comfyloom_codegen.names import ClassName, PythonName, class_stem, illegal, kebab, python_name
from comfyloom_codegen.problems import Findings
from comfyloom_codegen.pycode import sentence
from comfyloom_codegen.reading.files import Source

# What a package has beside its workflows, and what its __init__.py refers to.
_MODULES: Final = frozenset({"importlib", "object_info"})


def module_name(stem: str) -> PythonName:
    """Return the name of the module that a workflow file becomes."""
    return python_name(stem, reserved=_MODULES, spare="workflow")


def build(source: Source, schemas: Schemas, findings: Findings) -> Module | None:
    """Return the model of a module, None if something is wrong; `findings` tells what."""
    _check_required(source.graph, schemas, findings)
    module = (
        _unbound(source, schemas, findings)
        if source.binding is None
        else _bound(source, schemas, source.binding, findings)
    )
    if module and not findings.failed:
        _check_ends(module, schemas, findings)
    return None if findings.failed else module


def _unbound(source: Source, schemas: Schemas, findings: Findings) -> Module:
    stem = class_stem(source.stem)
    return Module(
        file=source.file,
        name=module_name(source.stem),
        workflow=ClassName(f"{stem}Workflow"),
        result=ClassName(f"{stem}Result"),
        command=kebab(source.stem),
        doc=sentence(f"The ComfyUI workflow `{source.stem}`"),
        fields=unbound.fields(source.graph, schemas, findings),
        results=unbound.results(source.graph, schemas),
        graph=source.graph,
    )


def _bound(source: Source, schemas: Schemas, text: str, findings: Findings) -> Module | None:
    file = f"{source.stem}.toml"
    findings = Findings(file, findings.problems)
    binding = parse_binding(text, file, findings)
    if binding is None:
        return None
    stem = binding.class_.removesuffix("Workflow") or class_stem(source.stem)
    command = binding.command or kebab(source.stem)
    _check_names(stem, command, findings)
    fields = InputBinder(source.graph, schemas, findings).fields(binding)
    binder = ResultBinder(source.graph, schemas, findings)
    results = binder.results(binding.results)
    stages = binder.stages(binding.stages)
    if findings.failed:
        return None
    return Module(
        file=source.file,
        name=module_name(source.stem),
        workflow=ClassName(f"{stem}Workflow"),
        result=ClassName(f"{stem}Result"),
        command=command,
        doc=sentence(binding.doc or f"The ComfyUI workflow `{source.stem}`"),
        fields=fields,
        results=results,
        stages=stages,
        graph=source.graph,
    )


def _check_ends(module: Module, schemas: Schemas, findings: Findings) -> None:
    """Warn of a workflow that gives nothing, and of values that nothing depends on."""
    if not module.results:
        findings.warn("no node gives a result")
        return
    ends = unbound.ends(module.graph, schemas)
    unused = set(unused_nodes(module.graph, [*ends, *(r.spec.node for r in module.results)]))
    idle: defaultdict[str, list[str]] = defaultdict(list)
    for field in module.fields:
        if unused.issuperset(target.node for target in field.spec.targets):
            idle[field.spec.node].append(field.name)
    for node, names in idle.items():
        findings.warn(f"no output node needs it, so {', '.join(names)} changes nothing", node=node)


def _check_names(stem: str, command: str, findings: Findings) -> None:
    reason = illegal(f"{stem}Workflow")
    if reason or stem[:1].islower():
        findings.error(f"{stem!r} {reason or 'begins with a small letter'}", field="class")
    if not all(f"a{word}".isidentifier() and "_" not in word for word in _words(command)):
        findings.error(f"{command!r} is no name such as 'flux-mesh'", field="command")


def _words(command: str) -> list[str]:
    # An empty word is none that can follow: "a--b", "-a".
    return [word or "-" for word in command.split("-")]


def _check_required(graph: Graph, schemas: Schemas, findings: Findings) -> None:
    for node, entry in graph.items():
        schema = schemas.node(entry["class_type"])
        for name in schema.required if schema else ():
            if name not in entry["inputs"]:
                reason = f"{entry['class_type']} requires an input {name!r}, which is not set"
                findings.warn(reason, node=node)
