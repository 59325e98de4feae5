"""Literal values of inputs: conversion to the declared type, then range and choices."""

from collections.abc import Callable, Mapping
from typing import Any

from comfyloom_emulator.comfyui import validation_errors
from comfyloom_emulator.comfyui.schemas import DeclaredInput
from comfyloom_emulator.comfyui.validation_errors import ValidationError
from comfyloom_emulator.json_access import as_array, as_object

_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}
_SHOWN_CHOICES = 20


def check_literal(
    spec: DeclaredInput, inputs: dict[str, Any], *, ranges: bool
) -> ValidationError | None:
    """Convert an input's literal value in place; return what is wrong with it, if anything.

    Args:
        spec: The declared input.
        inputs: The node's inputs.
        ranges: Whether to check range and choices; not done for inputs that the node validates.
    """
    try:
        _convert(spec, inputs)
    except (TypeError, ValueError, OverflowError) as error:
        return validation_errors.invalid_input_type(spec, inputs[spec.name], error)
    return _check_range(spec, inputs[spec.name]) if ranges else None


def _convert(spec: DeclaredInput, inputs: dict[str, Any]) -> None:
    wrapped = as_object(inputs[spec.name])
    if wrapped is not None and "__value__" in wrapped:
        # This wrapper marks a literal list, which would otherwise be taken for a link.
        inputs[spec.name] = wrapped["__value__"]
    value = inputs[spec.name]
    if isinstance(spec.kind, str) and spec.kind in _CONVERTERS:
        inputs[spec.name] = _CONVERTERS[spec.kind](value)


def _check_range(spec: DeclaredInput, value: Any) -> ValidationError | None:
    options = spec.options
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return validation_errors.out_of_range("value_smaller_than_min", message, spec, value)
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return validation_errors.out_of_range("value_bigger_than_max", message, spec, value)
    choices = as_array(spec.kind)
    # An empty list stands for model files. The emulator has none, so any name is accepted.
    if choices and value not in choices:
        return validation_errors.value_not_in_list(spec, value, _SHOWN_CHOICES)
    return None
