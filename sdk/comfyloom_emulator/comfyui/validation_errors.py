"""Validation errors, in the exact format of the protocol."""

from typing import Any, TypeAlias

from comfyloom_emulator.comfyui.schemas import DeclaredInput

ValidationError: TypeAlias = dict[str, Any]


def error_object(
    kind: str, message: str, details: str = "", extra: dict[str, Any] | None = None
) -> ValidationError:
    """Return an error object."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def required_input_missing(name: str) -> ValidationError:
    """An input is missing."""
    message = "Required input is missing"
    return error_object("required_input_missing", message, name, {"input_name": name})


def invalid_input_type(spec: DeclaredInput, value: Any, failure: Exception) -> ValidationError:
    """A literal cannot be converted."""
    extra = {**_received(spec, value), "exception_message": str(failure)}
    message = f"Failed to convert an input value to a {spec.kind} value"
    return error_object("invalid_input_type", message, f"{spec.name}, {value}, {failure}", extra)


def out_of_range(kind: str, message: str, spec: DeclaredInput, value: Any) -> ValidationError:
    """A literal is too small or too big."""
    return error_object(kind, message, spec.name, _received(spec, value))


def value_not_in_list(spec: DeclaredInput, value: Any, shown: int) -> ValidationError:
    """A literal is not among the choices; they are listed if there are at most `shown`."""
    extra = _received(spec, value)
    choices = str(spec.kind)
    if len(spec.kind) > shown:
        choices = f"(list of length {len(spec.kind)})"
        extra["input_config"] = None
    details = f"{spec.name}: '{value}' not in {choices}"
    return error_object("value_not_in_list", "Value not in list", details, extra)


def custom_validation_failed(name: str, message: str) -> ValidationError:
    """The node's own validation refused an input."""
    text = "Custom validation failed for node"
    return error_object(
        "custom_validation_failed", text, f"{name} - {message}", {"input_name": name}
    )


def bad_linked_input(spec: DeclaredInput, link: list[Any]) -> ValidationError:
    """A list is not a valid link."""
    message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
    return error_object("bad_linked_input", message, spec.name, _received(spec, link))


def return_type_mismatch(spec: DeclaredInput, received: Any, link: list[Any]) -> ValidationError:
    """A link comes from an output of another type."""
    details = f"{spec.name}, received_type({received}) mismatch input_type({spec.kind})"
    extra = {
        "input_name": spec.name,
        "input_config": spec.config,
        "received_type": received,
        "linked_node": link,
    }
    return error_object(
        "return_type_mismatch", "Return type mismatch between linked nodes", details, extra
    )


def exception_during_validation(failure: Exception) -> ValidationError:
    """Validating an output node raised an exception."""
    extra = {
        "exception_type": type(failure).__name__,
        "traceback": _traceback("validate_prompt", 1010),
    }
    message = "Exception when validating node"
    return error_object("exception_during_validation", message, str(failure), extra)


def exception_during_inner_validation(
    spec: DeclaredInput, failure: Exception, link: list[Any]
) -> ValidationError:
    """Validating an upstream node raised an exception."""
    extra = {
        "input_name": spec.name,
        "input_config": spec.config,
        "exception_message": str(failure),
        "exception_type": type(failure).__name__,
        "traceback": _traceback("validate_inputs", 808),
        "linked_node": link,
    }
    message = "Exception when validating inner node"
    return error_object("exception_during_inner_validation", message, str(failure), extra)


def _received(spec: DeclaredInput, value: Any) -> dict[str, Any]:
    return {"input_name": spec.name, "input_config": spec.config, "received_value": value}


def _traceback(function: str, line: int) -> list[str]:
    return [
        f'  File "/comfyui/execution.py", line {line}, in {function}',
        '  File "/comfyui/execution.py", line 788, in validate_inputs',
    ]
