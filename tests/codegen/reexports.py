"""A small workflow, its binding, and new exports of it."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from codegen.workspace import MakeWorkspace, Workspace
from comfyloom_codegen.bindings.entries import Binding
from comfyloom_codegen.bindings.parsing import parse_binding
from comfyloom_codegen.exports.changes import Change
from comfyloom_codegen.problems import ProblemLog
from ugly import node

Graph: TypeAlias = dict[str, Any]

GRAPH: Final[Graph] = {
    "4": node("CheckpointLoader", "Model", ckpt="a.ckpt"),
    "6": node("Encode", "POSITIVE", text="a cat", clip=["4", 1]),
    "7": node("Encode", "NEGATIVE", text="blur", clip=["4", 1]),
    "3": node("Sample", seed=5, positive=["6", 0], negative=["7", 0]),
    "9": node("SaveImage", "OUT", images=["3", 0]),
}
BINDING: Final = """\
# A comment of the author.
class = "Cat"

[inputs.prompt]
to = ["POSITIVE.text"]   # the cat

[inputs.negative]
to = ["7.text"]

[inputs.seed]
to = [{ node = { id = "3" }, input = "seed" }]

[results.image]
node = "9"

[[stages]]
name = "all"
share = 1
nodes = ["4", "3"]
"""
PROMPT_BY_ID: Final = 'class = "Cat"\n[inputs.prompt]\nto = ["6.text"]\n'


def renumbered(graph: Graph, ids: Mapping[str, str]) -> Graph:
    """Return a graph with other ids, in links too."""
    copied = copy.deepcopy(graph)
    for entry in copied.values():
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                entry["inputs"][name] = [ids.get(value[0], value[0]), value[1]]
    return {ids.get(each, each): entry for each, entry in copied.items()}


def titled(graph: Graph, titles: Mapping[str, str]) -> Graph:
    """Return a graph with other titles."""
    copied = copy.deepcopy(graph)
    for each, title in titles.items():
        copied[each]["_meta"] = {"title": title}
    return copied


SWAPPED: Final = renumbered(GRAPH, {"6": "7", "7": "6"})


def parse(text: str) -> Binding:
    """Return a binding that is valid."""
    binding = parse_binding(text, "x.toml", ProblemLog("x"))
    assert binding is not None
    return binding


def reexported(
    make_workspace: MakeWorkspace, after: Graph, binding: str | None = BINDING
) -> Workspace:
    """Return a workspace whose package was generated from GRAPH, with a new export in it."""
    files: dict[str, object] = {"a.json": GRAPH}
    workspace = make_workspace(files if binding is None else {**files, "a.toml": binding})
    report = workspace.generate()
    assert not report.errors, report.errors
    workspace.write({"a.json": after})
    return workspace


def kinds(changes: Iterable[Change]) -> dict[str, str]:
    """Return the kind of each change by public name."""
    return {change.name: change.kind for change in changes}


def title_of_prompt_node(workspace: Workspace) -> str:
    """Return the title of the node whose text the prompt of the generated class sets."""
    for name in [each for each in sys.modules if each.partition(".")[0] == workspace.package]:
        del sys.modules[name]
    importlib.invalidate_caches()
    graph = workspace.module().CatWorkflow(prompt="MINE").to_graph()
    (title,) = [e["_meta"]["title"] for e in graph.values() if e["inputs"].get("text") == "MINE"]
    return str(title)
