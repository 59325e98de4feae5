"""What a generated module says, as frozen values ready to be printed."""

from __future__ import annotations

import attrs

from comfyloom._workflow.graph import Graph
from comfyloom._workflow.inputs import MISSING, InputSpec
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.progress import Stage
from comfyloom_codegen.names import ClassName, PythonName


@attrs.frozen(kw_only=True)
class Field:
    """One value that callers set.

    Attributes:
        name: Its public name.
        spec: Where it goes and what it may be, as the generated class will know it.
        default: What it is when nobody sets it; `MISSING` if somebody must.
        summary: What it is and which values it takes, one sentence.
        doc: The same with the titles of the nodes that it goes to.
    """

    name: PythonName
    spec: InputSpec
    default: object = MISSING
    summary: str
    doc: str


@attrs.frozen(kw_only=True)
class Result:
    """One result that callers get."""

    name: PythonName
    spec: OutputSpec
    doc: str


@attrs.frozen(kw_only=True)
class Module:
    """One generated module: a workflow class, a result class, and the graph beside them.

    Attributes:
        file: The name of the workflow file.
        name: The name of the module, and of the graph file.
        workflow: The name of the workflow class.
        result: The name of the result class.
        command: The name of the workflow on the command line.
        doc: What the workflow does, one sentence.
        fields: What callers set, in the order of the binding or of the file.
        results: What they get.
        stages: The parts of the work, for progress.
        graph: The nodes.
    """

    file: str
    name: PythonName
    workflow: ClassName
    result: ClassName
    command: str
    doc: str
    fields: tuple[Field, ...] = ()
    results: tuple[Result, ...] = ()
    stages: tuple[Stage, ...] = ()
    graph: Graph
