"""Binding files: the public names of a workflow, in TOML.

class = "FluxMesh"
command = "flux-mesh"
doc = "What the workflow does."

[inputs.prompt]                     # kind, required, doc, ge, le, choices, default
to = ["POSITIVECLIP.clip_l", { node = { class = "T5", title = "Long" }, input = "text" }]

[results.image]                     # kind, key, file, doc
node = "EXPORT IMAGE"

[[stages]]
name = "models"
share = 15
nodes = ["VAELoader"]
"""

from __future__ import annotations

from typing import Any

import attrs

from comfyloom.inputs import MISSING, Kind
from comfyloom.outputs import OutputKind


@attrs.frozen(kw_only=True)
class Selector:
    """Which node is meant: one text (title, else class type, else id), or all that is given."""

    text: str = ""
    title: str | None = None
    class_: str | None = None
    id: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it asks for."""
        return tuple(filter(None, (self.text, self.title, self.class_, self.id)))

    def __str__(self) -> str:
        if self.text:
            return repr(self.text)
        given = {"title": self.title, "class": self.class_, "id": self.id}
        return " and ".join(f"{key} {value!r}" for key, value in given.items() if value is not None)


@attrs.frozen(kw_only=True)
class TargetEntry:
    """Which node input is meant: `"NODE.input"`, or both on their own."""

    text: str = ""
    node: Selector = Selector()
    input: str = ""


@attrs.frozen(kw_only=True)
class InputEntry:
    """One value that callers set; what is None follows from the schemas or the file."""

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
    doc: str = ""


@attrs.frozen(kw_only=True)
class StageEntry:
    """A part of the work, for progress."""

    name: str
    share: float
    nodes: list[Selector]


@attrs.frozen(kw_only=True)
class Binding:
    """A binding file."""

    class_: str = ""
    command: str = ""
    doc: str = ""
    inputs: dict[str, InputEntry] = attrs.field(factory=dict[str, InputEntry])
    results: dict[str, ResultEntry] = attrs.field(factory=dict[str, ResultEntry])
    stages: list[StageEntry] = attrs.field(factory=list[StageEntry])
