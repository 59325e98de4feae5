"""What a run reports: each event with its share done, its stages, and the time left."""

from __future__ import annotations

from typing import Any

import attrs

from comfyloom._backends.base import Backend
from comfyloom._session.eta import EtaEstimator, Timings
from comfyloom.progress import Kind, Progress, ProgressCallback


@attrs.define(eq=False)
class RunReport:
    """Reports the progress of one run, and keeps its machine in use.

    Args:
        backend: Where it runs.
        workflow: The name of its workflow file, for the times of earlier runs.
        callback: Called with each event.
    """

    backend: Backend
    workflow: str
    callback: ProgressCallback
    _begun: float = attrs.field(init=False)
    _started: float = attrs.field(default=0.0, init=False)
    _estimator: EtaEstimator | None = attrs.field(default=None, init=False)
    _latest: Progress = attrs.field(factory=lambda: Progress(kind="upload"), init=False)

    def __attrs_post_init__(self) -> None:
        self.begin()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began on its server."""
        return self.backend.clock.monotonic() - self._begun

    def begin(self) -> None:
        """Count the time from now: the server is there."""
        self._begun = self.backend.clock.monotonic()

    def say(self, kind: Kind, message: str, **facts: Any) -> None:
        """Report an event of the run; fraction and stages keep their values unless given."""
        self.backend.touch()
        last = self._latest
        is_known = (kind, message, facts.get("fraction")) == (
            last.kind,
            last.message,
            last.fraction,
        )
        if is_known and kind != "preview":
            return  # the event socket and a poll may both tell of it
        elapsed_s = self.elapsed_s
        facts.setdefault("fraction", self._latest.fraction)
        facts.setdefault("stages", self._latest.stages)
        facts["eta_s"] = self._eta_s(kind, facts["fraction"], elapsed_s)
        self._latest = Progress(kind=kind, message=message, elapsed_s=elapsed_s, **facts)
        self.callback(self._latest)

    def finish(self) -> None:
        """Report the end, and record how long each part took."""
        stages = dict.fromkeys(self._latest.stages, 1.0)
        self.say("finished", "finished", fraction=1.0, stages=stages)
        if self._estimator is not None:
            self._estimator.stop(self.elapsed_s - self._started)

    def _eta_s(self, kind: Kind, fraction: float, elapsed_s: float) -> float | None:
        """Return the estimated seconds left, None before it runs."""
        if self._estimator is None:
            if kind != "started":
                return None
            self._estimator = EtaEstimator(Timings.of(self.workflow, self.backend.timings_key))
            self._started = elapsed_s
        if kind == "started":
            self._estimator.note_cached(fraction)
        return self._estimator.note(fraction, elapsed_s - self._started)
