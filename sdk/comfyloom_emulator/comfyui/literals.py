"""Literal values of inputs: conversion to the declared type, ranges and choices."""

from collections.abc import Callable, Mapping
from typing import Any

from comfyloom_emulator.comfyui import problems
from comfyloom_emulator.comfyui.problems import Problem
from comfyloom_emulator.comfyui.schemas import InputSpec
from comfyloom_emulator.json_access import as_array, as_object

_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}
_SHOWN_CHOICES = 20


def check_literal(spec: InputSpec, inputs: dict[str, Any], *, ranges: bool) -> Problem | None:
    """What is wrong with an input's literal value, which is converted in place.

    Args:
        spec: The declared input.
        inputs: The node's inputs.
        ranges: Whether range and choices count; a node with a validation of its own does without.
    """
    try:
        _convert(spec, inputs)
    except (TypeError, ValueError, OverflowError) as error:
        return problems.invalid_input_type(spec, inputs[spec.name], error)
    return _check_range(spec, inputs[spec.name]) if ranges else None


def _convert(spec: InputSpec, inputs: dict[str, Any]) -> None:
    wrapped = as_object(inputs[spec.name])
    if wrapped is not None and "__value__" in wrapped:
        # How a graph spells a literal list, which would be taken for a link.
        inputs[spec.name] = wrapped["__value__"]
    value = inputs[spec.name]
    if isinstance(spec.kind, str) and spec.kind in _CONVERTERS:
        inputs[spec.name] = _CONVERTERS[spec.kind](value)


def _check_range(spec: InputSpec, value: Any) -> Problem | None:
    options = spec.options
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return problems.out_of_range("value_smaller_than_min", message, spec, value)
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return problems.out_of_range("value_bigger_than_max", message, spec, value)
    choices = as_array(spec.kind)
    # An empty list is one of model files, of which the emulator has none: any name will do.
    if choices and value not in choices:
        return problems.value_not_in_list(spec, value, _SHOWN_CHOICES)
    return None
