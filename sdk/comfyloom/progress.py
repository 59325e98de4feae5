"""How far a run is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


@attrs.define
class Meter:
    """Turns what the nodes of a graph do into one fraction that never goes back."""

    stages: tuple[Stage, ...]
    fraction: float = 0.0
    _done: dict[str, float] = attrs.field(factory=dict[str, float], init=False)

    @classmethod
    def of(cls, graph: Mapping[str, object], stages: Iterable[Stage] = ()) -> Meter:
        """Return the meter of a graph; nodes that no stage names share one of their own."""
        named = tuple(stages)
        known = {node for stage in named for node in stage.nodes}
        rest = tuple(node for node in graph if node not in known)
        share = (sum(stage.share for stage in named) or 1.0) * len(rest) / len(graph)
        return cls((*named, Stage("", rest, share)) if rest else named)

    def stage_of(self, node: str) -> str:
        """Return the name of the stage that a node belongs to, "" if none."""
        return next((stage.name for stage in self.stages if node in stage.nodes), "")

    def parts(self) -> dict[str, float]:
        """Return the share of each named stage that is done."""
        return {stage.name: self._part(stage) for stage in self.stages if stage.name}

    def finish(self, nodes: Iterable[str]) -> float:
        """Take nodes for done and return the fraction."""
        for node in nodes:
            self._done[node] = 1.0
        return self._update()

    def step(self, node: str, value: float, maximum: float) -> float:
        """Take `value` of `maximum` steps of a node for done and return the fraction."""
        part = min(1.0, value / maximum) if maximum > 0 else 0.0
        self._done[node] = max(self._done.get(node, 0.0), part)
        return self._update()

    def _update(self) -> float:
        whole = sum(stage.share for stage in self.stages) or 1.0
        done = sum(stage.share * self._part(stage) for stage in self.stages)
        self.fraction = max(self.fraction, min(1.0, done / whole))
        return self.fraction

    def _part(self, stage: Stage) -> float:
        return sum(self._done.get(node, 0.0) for node in stage.nodes) / max(1, len(stage.nodes))
