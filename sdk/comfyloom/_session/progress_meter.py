"""The progress of a run as one fraction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from comfyloom.progress import Stage


@attrs.define
class Meter:
    """Combines the progress of the nodes of a graph into a fraction that never decreases."""

    stages: tuple[Stage, ...]
    fraction: float = 0.0
    _done: dict[str, float] = attrs.field(factory=dict[str, float], init=False)

    @classmethod
    def of(cls, graph: Mapping[str, object], stages: Iterable[Stage] = ()) -> Meter:
        """Return the meter of a graph; nodes without a stage share an unnamed one."""
        # A stage may have nodes that do not run.
        here = [attrs.evolve(s, nodes=tuple(n for n in s.nodes if n in graph)) for s in stages]
        named = tuple(stage for stage in here if stage.nodes)
        known = {node for stage in named for node in stage.nodes}
        rest = tuple(node for node in graph if node not in known)
        share = (sum(stage.share for stage in named) or 1.0) * len(rest) / len(graph)
        return cls((*named, Stage("", rest, share)) if rest else named)

    def stage_of(self, node: str) -> str:
        """Return the name of a node's stage, "" if none."""
        return next((stage.name for stage in self.stages if node in stage.nodes), "")

    def parts(self) -> dict[str, float]:
        """Return how much of each named stage is done, 0 to 1."""
        return {stage.name: self._part(stage) for stage in self.stages if stage.name}

    def finish(self, nodes: Iterable[str]) -> float:
        """Mark nodes as done and return the fraction."""
        for node in nodes:
            self._done[node] = 1.0
        return self._update()

    def step(self, node: str, value: float, maximum: float) -> float:
        """Mark `value` of `maximum` steps of a node as done and return the fraction."""
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
