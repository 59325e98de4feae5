"""Typed Python classes from ComfyUI workflow files.

    from comfyloom_codegen import generate

    report = generate("workflows", "generated")
    report.raise_for_errors()

A workflow file in API format becomes one module with a workflow class and a result class. A TOML
binding beside the file and the pinned node schemas (`object_info.json`) are optional. Nothing in a
workflow file is ever executed: values are written as literals, documentation as docstrings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyloom_codegen.exports.changes import Change
    from comfyloom_codegen.pipeline import generate
    from comfyloom_codegen.problems import Problem
    from comfyloom_codegen.report import Drift, Outcome, Report

_MODULE_OF = {
    "Change": "exports.changes",
    "Drift": "report",
    "Outcome": "report",
    "Problem": "problems",
    "Report": "report",
    "generate": "pipeline",
}

__all__ = ["Change", "Drift", "Outcome", "Problem", "Report", "generate"]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
