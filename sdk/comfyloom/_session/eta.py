"""Estimating the remaining time of a run from earlier runs.

A run is recorded as the times at which each twentieth of it was done. So the estimate does not
depend on the shares of the stages, and also holds for a partly cached run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

import attrs

from comfyloom._core.atomic_write import write_atomically
from comfyloom._core.cache import cache_folder
from comfyloom._core.json import items, mapping, number
from comfyloom._core.redact import log

MARKS: Final = 20
KEPT: Final = 20
# Runs with a larger cached share are not recorded: they are not representative.
_MOST_CACHED: Final = 0.5

Curve: TypeAlias = tuple[float, ...]
"""Seconds since the start at which 0, 1/20, … 20/20 of a run were done; never decreasing."""


@attrs.frozen
class Timings:
    """The latest runs of one workflow on one machine type, and their file."""

    path: Path
    runs: tuple[Curve, ...] = ()

    @classmethod
    def of(cls, workflow: str, where: str) -> Timings:
        """Read the timings of a workflow file; `where` is the backend's `timings_key`."""
        import hashlib

        key = hashlib.sha256(f"{workflow}@{where}".encode()).hexdigest()[:24]
        path = cache_folder("timings") / f"{key}.json"
        try:
            rows = items(mapping(json.loads(path.read_bytes())).get("runs"))
        except (OSError, ValueError, RecursionError):
            rows = []
        return cls(path, tuple(curve for row in rows if (curve := _curve(row)) is not None))

    def left_s(self, fraction: float) -> float | None:
        """Return the median time from a fraction to the end, None without earlier runs."""
        return median(_left(run, fraction) for run in self.runs) if self.runs else None

    def add(self, run: Curve) -> None:
        """Record a successful run; errors are only logged."""
        runs = [*self.runs, run][-KEPT:]
        rows = [[round(moment, 3) for moment in each] for each in runs]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps({"runs": rows}).encode())
        except OSError as error:
            log.debug("the timing of a run is not recorded: %s", error.strerror)


@attrs.define
class EtaEstimator:
    """Tracks the progress of a run, and estimates its remaining time."""

    timings: Timings
    _marks: list[float] = attrs.field(factory=lambda: [0.0], init=False)
    _fraction: float = attrs.field(default=0.0, init=False)
    _moved: float = attrs.field(default=0.0, init=False)
    _cached: float = attrs.field(default=0.0, init=False)

    def note_cached(self, fraction: float) -> None:
        """Note the cached share of the run."""
        self._cached = fraction

    def note(self, fraction: float, elapsed_s: float) -> float | None:
        """Note the share of a run that is done, 0 to 1, and return the estimated seconds left."""
        if fraction > self._fraction:
            self._fraction, self._moved = fraction, elapsed_s
        while len(self._marks) <= self._fraction * MARKS:
            self._marks.append(elapsed_s)
        left_s = self.timings.left_s(self._fraction)
        return None if left_s is None else max(0.0, left_s - (elapsed_s - self._moved))

    def stop(self, elapsed_s: float) -> None:
        """Record the run, which succeeded."""
        self.note(1.0, elapsed_s)
        if self._cached > _MOST_CACHED or elapsed_s <= 0:
            return
        self.timings.add((*self._marks[:MARKS], elapsed_s))


def _left(run: Curve, fraction: float) -> float:
    """Return the seconds from a fraction of a run to its end."""
    place = min(max(fraction, 0.0), 1.0) * MARKS
    mark = min(int(place), MARKS - 1)
    done = run[mark] + (place - mark) * (run[mark + 1] - run[mark])
    return max(0.0, run[-1] - done)


def _curve(row: object) -> Curve | None:
    moments: Sequence[float | None] = [number(each) for each in items(row)]
    known = tuple(each for each in moments if each is not None and 0 <= each < float("inf"))
    return known if len(moments) == len(known) == MARKS + 1 else None
