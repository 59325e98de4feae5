"""Checks a posted graph the way the server does, coercing its values on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from comfyloom_emulator.comfyui import problems
from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.literals import check_literal
from comfyloom_emulator.comfyui.problems import Problem
from comfyloom_emulator.comfyui.queue import Graph
from comfyloom_emulator.comfyui.schemas import InputSpec, Schema, current, input_specs
from comfyloom_emulator.nodes.spec import Node


@attrs.frozen
class Verdict:
    """What validation says of a graph.

    Attributes:
        outputs: The output nodes that may run; nothing runs if there is none.
        error: Why the prompt is refused; None if it is accepted.
        node_errors: What is wrong with which node, also in an accepted prompt.
    """

    outputs: list[str]
    error: dict[str, Any] | None
    node_errors: dict[str, Any]


def validate(
    graph: Any,
    targets: Sequence[str] | None,
    schemas: Mapping[str, Schema],
    nodes: Mapping[str, Node],
    folders: Folders,
) -> Verdict:
    """Validate a graph; its literals are converted to their declared types in place.

    Args:
        graph: What was posted as `prompt`.
        targets: The output nodes that shall run; all if None.
        schemas: Known classes.
        nodes: Their behaviour.
        folders: The server's files.

    Raises:
        Exception: It is so wrong that the server fails over it.
    """
    outputs: list[str] = []
    for node in graph:
        error = _class_error(graph, node, schemas)
        if error is not None:
            return Verdict([], error, {})
        is_output = schemas[graph[node]["class_type"]]["output_node"]
        if is_output and (targets is None or node in targets):
            outputs.append(node)
    if not outputs:
        return Verdict([], problems.error("prompt_no_outputs", "Prompt has no outputs"), {})
    return _Validation(graph, schemas, nodes, folders, folders.names()).judge(outputs)


def _class_error(graph: Any, node: str, schemas: Mapping[str, Schema]) -> dict[str, Any] | None:
    if "class_type" not in graph[node]:
        message = "Cannot execute because a node is missing the class_type property."
    elif graph[node]["class_type"] not in schemas:
        name = graph[node]["class_type"]
        message = f"Cannot execute because node {name} does not exist."
    else:
        return None
    return problems.error("invalid_prompt", message, f"Node ID '#{node}'")


@attrs.define
class _Validation:
    graph: Graph
    schemas: Mapping[str, Schema]
    nodes: Mapping[str, Node]
    folders: Folders
    files: list[str]
    _found: dict[str, list[Problem] | None] = attrs.field(
        factory=dict[str, "list[Problem] | None"], init=False
    )
    _open: set[str] = attrs.field(factory=set[str], init=False)

    def judge(self, outputs: list[str]) -> Verdict:
        good: list[str] = []
        details: list[str] = []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            if self._check_output(output):
                good.append(output)
                continue
            own = self._found.get(output) or []
            details += [f"{problem['message']}: {problem['details']}" for problem in own]
            self._blame(output, node_errors)
        if good:
            return Verdict(good, None, node_errors)
        error = problems.error(
            "prompt_outputs_failed_validation",
            "Prompt outputs failed validation",
            "\n".join(details),
        )
        return Verdict([], error, node_errors)

    def _blame(self, output: str, node_errors: dict[str, Any]) -> None:
        # Every problem known so far is put on this output, whether it depends on it or not.
        for node, found in self._found.items():
            if not found:
                continue
            entry = node_errors.setdefault(
                node,
                {
                    "errors": found,
                    "dependent_outputs": [],
                    "class_type": self.graph[node]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)

    def _check_output(self, output: str) -> bool:
        try:
            return self._check(output)
        except Exception as error:  # noqa: BLE001 - the server reports whatever goes wrong
            self._found[output] = [problems.exception_during_validation(error)]
            return False

    def _check(self, node: str) -> bool:
        """Whether a node and all it depends on are fine; if only the latter is not: no problems."""
        if node in self._found:
            return self._found[node] is None
        if node in self._open:
            # In a cycle every node fails without a word.
            return False
        self._open.add(node)
        inputs = self.graph[node]["inputs"]
        schema = self.schemas[self.graph[node]["class_type"]]
        found: list[Problem] = []
        fine = True
        for spec in input_specs(current(schema, self.files)):
            if spec.name not in inputs:
                if spec.required:
                    found.append(problems.required_input_missing(spec.name))
            elif isinstance(inputs[spec.name], list):
                fine &= self._check_link(spec, inputs[spec.name], found)
            else:
                self._check_literal(node, spec, inputs, found)
        self._found[node] = None if fine and not found else found
        return self._found[node] is None

    def _check_link(self, spec: InputSpec, link: list[Any], found: list[Problem]) -> bool:
        if len(link) != 2:
            found.append(problems.bad_linked_input(spec, link))
            return True
        source, slot = link
        source_schema = self.schemas[self.graph[source]["class_type"]]
        received = tuple(source_schema["output"])[slot]
        if not _fits(received, spec.kind):
            found.append(problems.return_type_mismatch(spec, received, link))
            return True
        try:
            return self._check(source)
        except Exception as error:  # noqa: BLE001 - the server reports whatever goes wrong
            self._found[source] = [problems.exception_during_inner_validation(spec, error, link)]
            return False

    def _check_literal(
        self, node: str, spec: InputSpec, inputs: dict[str, Any], found: list[Problem]
    ) -> None:
        behaviour = self.nodes.get(self.graph[node]["class_type"])
        own = behaviour.validate.get(spec.name) if behaviour else None
        problem = check_literal(spec, inputs, ranges=own is None)
        if problem is not None:
            found.append(problem)
        elif own is not None:
            message = own(self.folders, inputs[spec.name])
            if message is not None:
                found.append(problems.custom_validation_failed(spec.name, message))


def _fits(received: Any, wanted: Any) -> bool:
    if received == wanted or "*" in {_name(received), _name(wanted)}:
        return True
    if "COMBO" in {_name(received), _name(wanted)}:
        return isinstance(received, list) or isinstance(wanted, list)
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    return {part.strip() for part in received.split(",")} <= {
        part.strip() for part in wanted.split(",")
    }


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else ""
