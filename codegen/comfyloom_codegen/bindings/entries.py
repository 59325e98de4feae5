"""Binding files: the public names of a workflow, in TOML.

class = "FluxMesh"
command = "flux-mesh"
doc = "What the workflow does."
expose = ["KSampler"]               # public under default names
hide = ["KSampler.denoise"]
keep = ["Save the log"]             # nodes that run although no result needs them
runs_on = "generate_flux_mesh"      # the saved workflow whose machines it runs on

[inputs.prompt]                     # kind, required, doc, ge, le, choices, default
to = ["POSITIVECLIP.clip_l", { node = { class = "T5", title = "Long" }, input = "text" }]

[results.image]                     # kind, key, file, many, required, doc
node = "EXPORT IMAGE"

[[stages]]
name = "models"
share = 15
nodes = ["VAELoader"]
"""

from __future__ import annotations

from typing import Any

import attrs

from comfyloom._workflow.input_spec import MISSING, Kind
from comfyloom._workflow.outputs import OutputKind


@attrs.frozen(kw_only=True)
class Selector:
    """Names one node: by one string (title, else node type, else id), or by all given values."""

    text: str = ""
    title: str | None = None
    class_: str | None = None
    id: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The strings given."""
        return tuple(filter(None, (self.text, self.title, self.class_, self.id)))

    def __str__(self) -> str:
        if self.text:
            return repr(self.text)
        given = {"title": self.title, "class": self.class_, "id": self.id}
        return " and ".join(f"{key} {value!r}" for key, value in given.items() if value is not None)


@attrs.frozen(kw_only=True)
class TargetEntry:
    """Names one node input: `"NODE.input"`, or node and input separately."""

    text: str = ""
    node: Selector = Selector()
    input: str = ""


@attrs.frozen(kw_only=True)
class PartEntry:
    """Names all inputs of a node, or one of them; `"*"` means all inputs of all nodes."""

    text: str = ""
    node: Selector = Selector()
    input: str = ""


@attrs.frozen(kw_only=True)
class InputEntry:
    """One value that callers set; None is replaced by the schema or the file."""

    to: list[TargetEntry]
    kind: Kind | None = None
    required: bool | None = None
    doc: str = ""
    ge: float | None = None
    le: float | None = None
    choices: list[str] = attrs.field(factory=list[str])
    default: Any = MISSING


@attrs.frozen(kw_only=True)
class ResultEntry:
    """One result that callers get."""

    node: Selector
    kind: OutputKind | None = None
    key: str = ""
    file: str = ""
    many: bool = False
    required: bool | None = None
    doc: str = ""


@attrs.frozen(kw_only=True)
class StageEntry:
    """A stage of a run, for progress."""

    name: str
    share: float
    nodes: list[Selector]


@attrs.frozen(kw_only=True)
class Binding:
    """A binding file.

    Attributes:
        class_: The name of the workflow class, with or without `Workflow`.
        command: The name of the workflow on the command line.
        doc: What the workflow does, one sentence.
        expose: The inputs that are public under default names, in addition to `inputs`; None
            exposes everything if there are no `inputs`, else nothing.
        hide: The inputs to leave out of `expose`.
        inputs: The values that callers set, by public name.
        results: The results, by public name; without entries, every output node gives one.
        stages: The stages of a run, for progress.
        keep: Nodes that run although no result needs them, for their side effects.
        runs_on: The saved workflow whose machines it runs on, "" for the one of its own name.
    """

    class_: str = ""
    command: str = ""
    doc: str = ""
    expose: list[PartEntry] | None = None
    hide: list[PartEntry] = attrs.field(factory=list[PartEntry])
    inputs: dict[str, InputEntry] = attrs.field(factory=dict[str, InputEntry])
    results: dict[str, ResultEntry] = attrs.field(factory=dict[str, ResultEntry])
    stages: list[StageEntry] = attrs.field(factory=list[StageEntry])
    keep: list[Selector] = attrs.field(factory=list[Selector])
    runs_on: str = ""
