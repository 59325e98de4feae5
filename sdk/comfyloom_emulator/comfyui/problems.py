"""The errors of validation, in the exact shapes of the protocol."""

from typing import Any, TypeAlias

from comfyloom_emulator.comfyui.schemas import InputSpec

Problem: TypeAlias = dict[str, Any]


def error(
    kind: str, message: str, details: str = "", extra: dict[str, Any] | None = None
) -> Problem:
    """An error object."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def required_input_missing(name: str) -> Problem:
    """An input is not there."""
    message = "Required input is missing"
    return error("required_input_missing", message, name, {"input_name": name})


def invalid_input_type(spec: InputSpec, value: Any, failure: Exception) -> Problem:
    """A literal cannot be converted."""
    extra = {**_received(spec, value), "exception_message": str(failure)}
    message = f"Failed to convert an input value to a {spec.kind} value"
    return error("invalid_input_type", message, f"{spec.name}, {value}, {failure}", extra)


def out_of_range(kind: str, message: str, spec: InputSpec, value: Any) -> Problem:
    """A literal is too small or too big."""
    return error(kind, message, spec.name, _received(spec, value))


def value_not_in_list(spec: InputSpec, value: Any, shown: int) -> Problem:
    """A literal is not among the choices; of more than `shown` choices only the number is told."""
    extra = _received(spec, value)
    choices = str(spec.kind)
    if len(spec.kind) > shown:
        choices = f"(list of length {len(spec.kind)})"
        extra["input_config"] = None
    details = f"{spec.name}: '{value}' not in {choices}"
    return error("value_not_in_list", "Value not in list", details, extra)


def custom_validation_failed(name: str, message: str) -> Problem:
    """The node's own validation has refused an input."""
    text = "Custom validation failed for node"
    return error("custom_validation_failed", text, f"{name} - {message}", {"input_name": name})


def bad_linked_input(spec: InputSpec, link: list[Any]) -> Problem:
    """A list that is no link."""
    message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
    return error("bad_linked_input", message, spec.name, _received(spec, link))


def return_type_mismatch(spec: InputSpec, received: Any, link: list[Any]) -> Problem:
    """A link from an output of another type."""
    details = f"{spec.name}, received_type({received}) mismatch input_type({spec.kind})"
    extra = {
        "input_name": spec.name,
        "input_config": spec.config,
        "received_type": received,
        "linked_node": link,
    }
    return error(
        "return_type_mismatch", "Return type mismatch between linked nodes", details, extra
    )


def exception_during_validation(failure: Exception) -> Problem:
    """Validating an output node failed."""
    extra = {
        "exception_type": type(failure).__name__,
        "traceback": _traceback("validate_prompt", 1010),
    }
    message = "Exception when validating node"
    return error("exception_during_validation", message, str(failure), extra)


def exception_during_inner_validation(
    spec: InputSpec, failure: Exception, link: list[Any]
) -> Problem:
    """Validating a node upstream failed."""
    extra = {
        "input_name": spec.name,
        "input_config": spec.config,
        "exception_message": str(failure),
        "exception_type": type(failure).__name__,
        "traceback": _traceback("validate_inputs", 808),
        "linked_node": link,
    }
    message = "Exception when validating inner node"
    return error("exception_during_inner_validation", message, str(failure), extra)


def _received(spec: InputSpec, value: Any) -> dict[str, Any]:
    return {"input_name": spec.name, "input_config": spec.config, "received_value": value}


def _traceback(function: str, line: int) -> list[str]:
    return [
        f'  File "/comfyui/execution.py", line {line}, in {function}',
        '  File "/comfyui/execution.py", line 788, in validate_inputs',
    ]
