"""The contents of a generated module, as frozen values ready to be rendered."""

from __future__ import annotations

import attrs

from comfyloom._workflow.graph import Graph
from comfyloom._workflow.input_spec import MISSING, InputSpec
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.progress import Stage
from comfyloom_codegen.names import ClassName, PythonName


@attrs.frozen(kw_only=True)
class InputField:
    """One value that callers set.

    Attributes:
        name: Its public name.
        spec: Its targets, kind and limits, as the generated class declares them.
        default: The value if the caller sets none; `MISSING` if the caller must set one.
        summary: Its meaning and limits, one sentence.
        doc: The summary with the titles of its target nodes.
    """

    name: PythonName
    spec: InputSpec
    default: object = MISSING
    summary: str
    doc: str


@attrs.frozen(kw_only=True)
class ResultField:
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
        fields: The inputs, in the order of the binding or of the file.
        results: The results.
        stages: The stages of a run, for progress.
        keep: The nodes that run although no result needs them.
        runs_on: The saved workflow whose machines it runs on, "" for the one of its own name.
        graph: The nodes.
    """

    file: str
    name: PythonName
    workflow: ClassName
    result: ClassName
    command: str
    doc: str
    fields: tuple[InputField, ...] = ()
    results: tuple[ResultField, ...] = ()
    stages: tuple[Stage, ...] = ()
    keep: tuple[str, ...] = ()
    runs_on: str = ""
    graph: Graph
