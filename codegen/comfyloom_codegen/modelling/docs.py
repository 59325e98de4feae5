"""The docstrings of generated fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from comfyloom._workflow.graph import Graph, title
from comfyloom._workflow.input_spec import LARGE, InputSpec
from comfyloom_codegen.modelling.infer import ANY_SEED
from comfyloom_codegen.pycode import sentence

_MAX_TITLE: Final = 60
_MAX_TEXT: Final = 40


def field_summary(doc: str, spec: InputSpec, default: object) -> str:
    """Return the meaning, the limits and the default of a field in one sentence."""
    is_any_seed = spec.kind == "seed" and spec.le in (None, ANY_SEED)
    facts = ", ".join(filter(None, ["" if is_any_seed else spec.range, _default(default)]))
    return sentence(": ".join(filter(None, [_without_full_stop(doc), facts])))


def field_doc(summary: str, spec: InputSpec, graph: Graph) -> str:
    """Return the summary of a field with the titles of its target nodes."""
    return node_doc(summary, [target.node for target in spec.targets], graph)


def node_doc(doc: str, nodes: Iterable[str], graph: Graph) -> str:
    """Return a sentence with the titles of nodes at its end."""
    titles = ", ".join(dict.fromkeys(_shortened(title(graph, node)) for node in nodes))
    return sentence(f"{_without_full_stop(doc)} ({titles})")


def humanised(name: str) -> str:
    """Return the name of an input as words."""
    return " ".join(name.replace("_", " ").split()) or name


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TITLE else f"{line[:_MAX_TITLE].rstrip()}…"


def _default(value: object) -> str:
    if isinstance(value, bool | int | float) and abs(value) < LARGE:
        return f"default {value}"
    is_short = isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()
    return f"default {value!r}" if is_short and value else ""


def _without_full_stop(doc: str) -> str:
    return " ".join(doc.split()).removesuffix(".")
