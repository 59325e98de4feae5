"""Build the model of one module from a workflow file, its binding and the schemas."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from comfyloom._workflow.graph import Graph, links_of, reachable_from
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.run_plan import needed_for
from comfyloom_codegen.bindings.parsing import parse_binding
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.bound_inputs import InputBinder
from comfyloom_codegen.modelling.bound_results import ResultBinder
from comfyloom_codegen.modelling.model import Module
from comfyloom_codegen.names import (
    ClassName,
    PythonName,
    class_stem,
    invalid_reason,
    kebab,
    python_name,
)
from comfyloom_codegen.problems import ProblemLog
from comfyloom_codegen.pycode import sentence
from comfyloom_codegen.reading.files import WorkflowSource

# Names that the __init__.py of a package refers to, and the file beside its modules.
_RESERVED_MODULES: Final = frozenset({"importlib", "object_info"})


def module_name(stem: str) -> PythonName:
    """Return the name of the module generated from a workflow file."""
    return python_name(stem, reserved=_RESERVED_MODULES, fallback="workflow")


def build(source: WorkflowSource, schemas: Schemas, problems: ProblemLog) -> Module | None:
    """Return the model of a module, None if there are errors; they are added to `problems`."""
    _check_required(source.graph, schemas, problems)
    module = (
        _unbound(source, schemas, problems)
        if source.binding is None
        else _bound(source, schemas, source.binding, problems)
    )
    if module and not problems.has_errors:
        _check_ends(module, schemas, problems)
    return None if problems.has_errors else module


def _unbound(source: WorkflowSource, schemas: Schemas, problems: ProblemLog) -> Module:
    stem = class_stem(source.stem)
    return Module(
        file=source.file,
        name=module_name(source.stem),
        workflow=ClassName(f"{stem}Workflow"),
        result=ClassName(f"{stem}Result"),
        command=kebab(source.stem),
        doc=sentence(f"The ComfyUI workflow `{source.stem}`"),
        fields=unbound.fields(source.graph, schemas, problems),
        results=unbound.results(source.graph, schemas),
        graph=source.graph,
    )


def _bound(
    source: WorkflowSource, schemas: Schemas, text: str, problems: ProblemLog
) -> Module | None:
    file = f"{source.stem}.toml"
    problems = ProblemLog(file, problems.entries)
    binding = parse_binding(text, file, problems)
    if binding is None:
        return None
    stem = binding.class_.removesuffix("Workflow") or class_stem(source.stem)
    command = binding.command or kebab(source.stem)
    _check_names(stem, command, problems)
    fields = InputBinder(source.graph, schemas, problems).fields(binding)
    binder = ResultBinder(source.graph, schemas, problems)
    results = binder.results(binding.results)
    stages = binder.stages(binding.stages)
    keep = binder.kept(binding.keep)
    if problems.has_errors:
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
        keep=keep,
        runs_on=binding.runs_on,
        graph=source.graph,
    )


def _check_ends(module: Module, schemas: Schemas, problems: ProblemLog) -> None:
    """Warn about a workflow without results, and about inputs that no output depends on."""
    if not module.results:
        problems.warn("no node gives a result")
        return
    end_nodes = unbound.end_nodes(module.graph, schemas)
    wanted = [*(result.spec.node for result in module.results), *module.keep]
    unused = module.graph.keys() - reachable_from([*end_nodes, *wanted], links_of(module.graph))
    unwanted = module.graph.keys() - needed_for(wanted, GraphView(module.graph, schemas))
    idle: defaultdict[str, list[str]] = defaultdict(list)
    for field in module.fields:
        if unwanted.issuperset(target.node for target in field.spec.targets):
            idle[field.spec.node].append(field.name)
    for node, names in idle.items():
        who, hint = "output node", ""
        if node not in unused:
            who, hint = "result", "; `keep` runs an output node without a result"
        problems.warn(f"no {who} uses it, so {', '.join(names)} has no effect{hint}", node=node)


def _check_names(stem: str, command: str, problems: ProblemLog) -> None:
    reason = invalid_reason(f"{stem}Workflow")
    if reason or stem[:1].islower():
        problems.error(f"{stem!r} {reason or 'begins with a lowercase letter'}", field="class")
    if not all(f"a{word}".isidentifier() and "_" not in word for word in _words(command)):
        problems.error(f"{command!r} is not a name such as 'flux-mesh'", field="command")


def _words(command: str) -> list[str]:
    # An empty word is not valid: "a--b", "-a".
    return [word or "-" for word in command.split("-")]


def _check_required(graph: Graph, schemas: Schemas, problems: ProblemLog) -> None:
    for node, entry in graph.items():
        schema = schemas.node(entry["class_type"])
        for name in schema.required if schema else ():
            if name not in entry["inputs"]:
                reason = f"{entry['class_type']} requires an input {name!r}, which is not set"
                problems.warn(reason, node=node)
