"""How far a run is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import attrs

Kind: TypeAlias = Literal[
    "machine",
    "upload",
    "queued",
    "started",
    "node",
    "step",
    "preview",
    "silent",
    "download",
    "finished",
    "cost",
]


@attrs.frozen(kw_only=True)
class Progress:
    """One thing that happened, and how far the run is with it.

    Attributes:
        kind: What happened; `silent` is a run that runs and tells nothing, which a slow node
            does as well as a server whose worker is dead; `cost` comes once for each machine, when
            the session ends.
        fraction: Share of the run that is done, 0 to 1; it never goes back.
        stage: The name of the stage at work, "" where the workflow has none.
        stages: The share of each stage that is done, 0 to 1, by name in the order of the work.
        message: The same for people.
        node: The id of the node at work, "" if none is.
        value: Steps of the node that are done, out of `maximum`.
        maximum: Steps of the node, 0 if it has none.
        position: Runs before this one in the queue, for `queued`.
        preview: A preview picture (JPEG or PNG), for `preview`.
        elapsed_s: Seconds since the machine was asked for, or the run was submitted.
        eta_s: Seconds that the run will still take, by the times of earlier ones; None before it
            runs, and while no earlier one is known.
    """

    kind: Kind
    fraction: float = 0.0
    stage: str = ""
    stages: Mapping[str, float] = attrs.field(factory=dict[str, float], repr=False)
    message: str = ""
    node: str = ""
    value: float = 0.0
    maximum: float = 0.0
    position: int = 0
    preview: bytes | None = attrs.field(default=None, repr=False)
    elapsed_s: float = 0.0
    eta_s: float | None = None


ProgressCallback: TypeAlias = Callable[[Progress], object]


@attrs.frozen
class Stage:
    """A part of a workflow that people can name: its nodes and its share of the work."""

    name: str
    nodes: tuple[str, ...]
    share: float
