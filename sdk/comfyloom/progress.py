"""Progress events of a run, and the stages of a workflow."""

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
    """One event, and the progress of the run at that moment.

    Attributes:
        kind: What happened. `silent` means that the run sends no events: a slow node does that,
            and so does a server whose worker thread is dead. `cost` comes once for each machine,
            when the session ends.
        fraction: Share of the run that is done, 0 to 1; it never decreases.
        stage: The name of the current stage, "" if the workflow has none.
        stages: The share of each stage that is done, 0 to 1, by name in the order of execution.
        message: A human-readable description of the event.
        node: The id of the node that is executing, "" if none is.
        value: Steps of the node that are done, out of `maximum`.
        maximum: Steps of the node, 0 if it has none.
        position: Runs ahead of this one in the queue, for `queued`.
        preview: A preview image (JPEG or PNG), for `preview`.
        elapsed_s: Seconds since the machine was requested or the run was submitted.
        eta_s: Estimated seconds until the run ends, from the times of earlier runs; None before
            it starts, and while no earlier run is known.
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
    """A named part of a workflow: its nodes and its share of the work."""

    name: str
    nodes: tuple[str, ...]
    share: float
