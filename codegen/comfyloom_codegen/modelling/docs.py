"""What the docstrings of generated fields say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from comfyloom._workflow.graph import Graph, title
from comfyloom._workflow.inputs import LARGE, InputSpec
from comfyloom_codegen.modelling.infer import ANY_SEED
from comfyloom_codegen.pycode import sentence

_LONGEST_TITLE: Final = 60
_LONGEST_TEXT: Final = 40


def field_summary(doc: str, spec: InputSpec, default: object) -> str:
    """Return what a field is, which values it takes and what it is by default, in one sentence."""
    is_any_seed = spec.kind == "seed" and spec.le in (None, ANY_SEED)
    facts = ", ".join(filter(None, ["" if is_any_seed else spec.range, _default(default)]))
    return sentence(": ".join(filter(None, [_bare(doc), facts])))


def field_doc(summary: str, spec: InputSpec, graph: Graph) -> str:
    """Return the summary of a field with the titles of the nodes that it goes to."""
    return node_doc(summary, [target.node for target in spec.targets], graph)


def node_doc(doc: str, nodes: Iterable[str], graph: Graph) -> str:
    """Return a sentence with the titles of nodes behind it."""
    titles = ", ".join(dict.fromkeys(_shortened(title(graph, node)) for node in nodes))
    return sentence(f"{_bare(doc)} ({titles})")


def humanised(name: str) -> str:
    """Return the name of an input as words."""
    return " ".join(name.replace("_", " ").split()) or name


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TITLE else f"{line[:_LONGEST_TITLE].rstrip()}…"


def _default(value: object) -> str:
    if isinstance(value, bool | int | float) and abs(value) < LARGE:
        return f"default {value}"
    is_short = isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()
    return f"default {value!r}" if is_short and value else ""


def _bare(doc: str) -> str:
    return " ".join(doc.split()).removesuffix(".")
