"""How long earlier runs took: what the time left of a run is estimated from.

A run is remembered as the moments at which each twentieth of it was done. So the estimate does not
take the shares of the stages for shares of the time, and holds for a run that finds half of its
work in the server's cache.
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
# A run that found more than this in the server's cache says nothing about one that does not.
_MOST_CACHED: Final = 0.5

Curve: TypeAlias = tuple[float, ...]
"""Seconds since the start at which 0, 1/20, … 20/20 of a run were done; it never falls."""


@attrs.frozen
class Timings:
    """The earlier runs of one workflow on one machine type.

    Attributes:
        path: The file that they are kept in.
        runs: The latest of them.
    """

    path: Path
    runs: tuple[Curve, ...] = ()

    @classmethod
    def of(cls, workflow: str, where: str) -> Timings:
        """Read those of a workflow.

        Args:
            workflow: The name of the workflow file.
            where: What kind of backend it runs at, such as the type of the machine.
        """
        import hashlib

        key = hashlib.sha256(f"{workflow}@{where}".encode()).hexdigest()[:24]
        path = cache_folder("timings") / f"{key}.json"
        try:
            rows = items(mapping(json.loads(path.read_bytes())).get("runs"))
        except (OSError, ValueError, RecursionError):
            rows = []
        return cls(path, tuple(curve for row in rows if (curve := _curve(row)) is not None))

    def left_s(self, fraction: float) -> float | None:
        """Return the seconds that a run took from a fraction on, None if none is known."""
        return median(_left(run, fraction) for run in self.runs) if self.runs else None

    def add(self, run: Curve) -> None:
        """Keep a run that has ended well; if that fails, nothing is lost but an estimate."""
        runs = [*self.runs, run][-KEPT:]
        rows = [[round(moment, 3) for moment in each] for each in runs]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps({"runs": rows}).encode())
        except OSError as error:
            log.debug("a run's time is not kept: %s", error.strerror)


@attrs.define
class EtaEstimator:
    """Notes when which part of a run was done, and estimates what is left of it."""

    timings: Timings
    _marks: list[float] = attrs.field(factory=lambda: [0.0], init=False)
    _fraction: float = attrs.field(default=0.0, init=False)
    _moved: float = attrs.field(default=0.0, init=False)
    _cached: float = attrs.field(default=0.0, init=False)

    def note_cached(self, fraction: float) -> None:
        """Note how much the server found in its cache."""
        self._cached = fraction

    def note(self, fraction: float, elapsed_s: float) -> float | None:
        """Note how far a run is, and return the seconds that it will still take.

        Args:
            fraction: The share that is done, 0 to 1.
            elapsed_s: Seconds since it started.
        """
        if fraction > self._fraction:
            self._fraction, self._moved = fraction, elapsed_s
        while len(self._marks) <= self._fraction * MARKS:
            self._marks.append(elapsed_s)
        left_s = self.timings.left_s(self._fraction)
        return None if left_s is None else max(0.0, left_s - (elapsed_s - self._moved))

    def stop(self, elapsed_s: float) -> None:
        """Keep the run: it has ended well."""
        self.note(1.0, elapsed_s)
        if self._cached > _MOST_CACHED or elapsed_s <= 0:
            return
        self.timings.add((*self._marks[:MARKS], elapsed_s))


def _left(run: Curve, fraction: float) -> float:
    """Return the seconds from a fraction of a run to its end."""
    backend = min(max(fraction, 0.0), 1.0) * MARKS
    mark = min(int(backend), MARKS - 1)
    done = run[mark] + (backend - mark) * (run[mark + 1] - run[mark])
    return max(0.0, run[-1] - done)


def _curve(row: object) -> Curve | None:
    moments: Sequence[float | None] = [number(each) for each in items(row)]
    known = tuple(each for each in moments if each is not None and 0 <= each < float("inf"))
    return known if len(moments) == len(known) == MARKS + 1 else None
