"""Validates a posted graph as the real server does, and converts its literal values."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from comfyloom_emulator.comfyui import validation_errors
from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.literals import check_literal
from comfyloom_emulator.comfyui.queue import Graph
from comfyloom_emulator.comfyui.schemas import (
    DeclaredInput,
    Schema,
    declared_inputs,
    with_current_files,
)
from comfyloom_emulator.comfyui.validation_errors import ValidationError
from comfyloom_emulator.nodes.spec import Node


@attrs.frozen
class ValidationResult:
    """The result of validating a graph.

    Attributes:
        outputs: The output nodes that may run; empty if the prompt is refused.
        error: Why the prompt is refused; None if it is accepted.
        node_errors: Errors by node, also for an accepted prompt.
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
) -> ValidationResult:
    """Validate a graph, and convert its literals to their declared types in place.

    Args:
        graph: The `prompt` field of the request.
        targets: The output nodes to run; all if None.
        schemas: Schemas of the known node types.
        nodes: Behaviour of the known node types.
        folders: The server's files.

    Raises:
        Exception: The graph is malformed in a way that makes the real server fail, too.
    """
    outputs: list[str] = []
    for node in graph:
        error = _class_error(graph, node, schemas)
        if error is not None:
            return ValidationResult([], error, {})
        is_output = schemas[graph[node]["class_type"]]["output_node"]
        if is_output and (targets is None or node in targets):
            outputs.append(node)
    if not outputs:
        return ValidationResult(
            [], validation_errors.error_object("prompt_no_outputs", "Prompt has no outputs"), {}
        )
    return _Validation(graph, schemas, nodes, folders, folders.names()).validate(outputs)


def _class_error(graph: Any, node: str, schemas: Mapping[str, Schema]) -> dict[str, Any] | None:
    if "class_type" not in graph[node]:
        message = "Cannot execute because a node is missing the class_type property."
    elif graph[node]["class_type"] not in schemas:
        name = graph[node]["class_type"]
        message = f"Cannot execute because node {name} does not exist."
    else:
        return None
    return validation_errors.error_object("invalid_prompt", message, f"Node ID '#{node}'")


@attrs.define
class _Validation:
    graph: Graph
    schemas: Mapping[str, Schema]
    nodes: Mapping[str, Node]
    folders: Folders
    files: list[str]
    _found: dict[str, list[ValidationError] | None] = attrs.field(
        factory=dict[str, "list[ValidationError] | None"], init=False
    )
    _visiting: set[str] = attrs.field(factory=set[str], init=False)

    def validate(self, outputs: list[str]) -> ValidationResult:
        valid: list[str] = []
        details: list[str] = []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            if self._check_output(output):
                valid.append(output)
                continue
            own = self._found.get(output) or []
            details += [f"{error['message']}: {error['details']}" for error in own]
            self._add_node_errors(output, node_errors)
        if valid:
            return ValidationResult(valid, None, node_errors)
        error = validation_errors.error_object(
            "prompt_outputs_failed_validation",
            "Prompt outputs failed validation",
            "\n".join(details),
        )
        return ValidationResult([], error, node_errors)

    def _add_node_errors(self, output: str, node_errors: dict[str, Any]) -> None:
        # As on the real server, all errors found so far count for this output, related or not.
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
        except Exception as error:  # noqa: BLE001 - the server reports any exception
            self._found[output] = [validation_errors.exception_during_validation(error)]
            return False

    def _check(self, node: str) -> bool:
        """Return whether a node and its upstream nodes are valid; store the node's own errors."""
        if node in self._found:
            return self._found[node] is None
        if node in self._visiting:
            # In a cycle every node fails without an error of its own.
            return False
        self._visiting.add(node)
        inputs = self.graph[node]["inputs"]
        schema = self.schemas[self.graph[node]["class_type"]]
        found: list[ValidationError] = []
        are_links_valid = True
        for spec in declared_inputs(with_current_files(schema, self.files)):
            if spec.name not in inputs:
                if spec.required:
                    found.append(validation_errors.required_input_missing(spec.name))
            elif isinstance(inputs[spec.name], list):
                are_links_valid &= self._check_link(spec, inputs[spec.name], found)
            else:
                self._check_literal(node, spec, inputs, found)
        self._found[node] = None if are_links_valid and not found else found
        return self._found[node] is None

    def _check_link(
        self, spec: DeclaredInput, link: list[Any], found: list[ValidationError]
    ) -> bool:
        if len(link) != 2:
            found.append(validation_errors.bad_linked_input(spec, link))
            return True
        source, slot = link
        source_schema = self.schemas[self.graph[source]["class_type"]]
        received = tuple(source_schema["output"])[slot]
        if not _is_type_compatible(received, spec.kind):
            found.append(validation_errors.return_type_mismatch(spec, received, link))
            return True
        try:
            return self._check(source)
        except Exception as error:  # noqa: BLE001 - the server reports any exception
            self._found[source] = [
                validation_errors.exception_during_inner_validation(spec, error, link)
            ]
            return False

    def _check_literal(
        self, node: str, spec: DeclaredInput, inputs: dict[str, Any], found: list[ValidationError]
    ) -> None:
        behaviour = self.nodes.get(self.graph[node]["class_type"])
        own = behaviour.validate.get(spec.name) if behaviour else None
        error = check_literal(spec, inputs, ranges=own is None)
        if error is not None:
            found.append(error)
        elif own is not None:
            message = own(self.folders, inputs[spec.name])
            if message is not None:
                found.append(validation_errors.custom_validation_failed(spec.name, message))


def _is_type_compatible(received: Any, wanted: Any) -> bool:
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
