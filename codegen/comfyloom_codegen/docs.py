"""What the docstrings of generated fields say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from comfyloom.graph import Graph, title
from comfyloom.inputs import InputSpec
from comfyloom_codegen.infer import ANY_SEED
from comfyloom_codegen.printing import sentence

_LONGEST_TITLE: Final = 60


def field_doc(doc: str, spec: InputSpec, graph: Graph) -> str:
    """Return what a field is, which values it takes and where they go, in one sentence."""
    is_any_seed = spec.kind == "seed" and spec.le in (None, ANY_SEED)
    limits = "" if is_any_seed else spec.range
    return node_doc(f"{_bare(doc)}{f', {limits}' if limits else ''}", _nodes(spec), graph)


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


def _nodes(spec: InputSpec) -> list[str]:
    return [target.node for target in spec.targets]


def _bare(doc: str) -> str:
    return " ".join(doc.split()).removesuffix(".")
