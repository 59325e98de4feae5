"""Kill a client at every point of a session, a `dev up` and a `dev down`; print what is left.

Run it with `nox -s crash`. Each point is tried with each of three nets: with the guard process;
without it, but reaped afterwards; with neither, until the lease is over.
"""

from __future__ import annotations

import itertools
import queue
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import attrs

from crash.lab import Lab, Net
from crash.scenes import SCENES

NETS: Final[tuple[Net, ...]] = ("guard", "reaper", "lease")
SCENARIOS: Final = ("session", "dev up", "dev down")
GUARDED: Final = ("refused", "silent")
"""Scenarios with several machines, which the guard alone must stop within seconds."""
WORKERS: Final = 3


@attrs.define
class Tally:
    """The outcomes of one group of trials."""

    tried: int = 0
    leaked: list[str] = attrs.field(factory=list[str])


@attrs.define
class Results:
    """The outcomes of all trials."""

    rows: dict[str, Tally] = attrs.field(factory=dict[str, Tally])
    touched: int = 0
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def add(self, row: str, what: str, *, is_clean: bool) -> None:
        with self.lock:
            tally = self.rows.setdefault(row, Tally())
            tally.tried += 1
            if not is_clean:
                tally.leaked.append(what)


def work(todo: queue.SimpleQueue[tuple[str, int, str, Net]], folder: Path, into: Results) -> None:
    with Lab.opened(folder) as lab:
        while True:
            try:
                scenario, number, name, net = todo.get_nowait()
            except queue.Empty:
                break
            begun = time.monotonic()
            is_clean = lab.trial(scenario, number, net)
            if "-v" in sys.argv:
                took_s = time.monotonic() - begun
                print(f"{took_s:5.1f} s  {scenario} {number} {name}, {net}: {is_clean}", flush=True)
            into.add(f"{scenario}, {net}", f"{number} ({name})", is_clean=is_clean)
        with into.lock:
            into.touched += lab.touched


def scenes(folder: Path, into: Results) -> None:
    for scene in SCENES:
        title = (scene.__doc__ or "").splitlines()[0].rstrip(".")
        with Lab.opened(folder / scene.__name__) as lab:
            is_clean = scene(lab)
            left = lab.running()
            lab.clear(lab.home())
            into.add(
                title, f"{len(left)} left" if left else "not as it should be", is_clean=is_clean
            )
            with into.lock:
                into.touched += lab.touched


def main() -> int:
    begun = time.monotonic()
    results = Results()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        todo: queue.SimpleQueue[tuple[str, int, str, Net]] = queue.SimpleQueue()
        with Lab.opened(folder / "points") as lab:
            for scenario, net in _trials():
                for number, point in enumerate(lab.points(scenario, net), 1):
                    todo.put((scenario, number, point, net))
        threads = [
            threading.Thread(target=work, args=(todo, folder / str(each), results))
            for each in range(WORKERS)
        ]
        threads.append(threading.Thread(target=scenes, args=(folder, results)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return _print(results, time.monotonic() - begun)


def _trials() -> list[tuple[str, Net]]:
    return [*itertools.product(SCENARIOS, NETS), *((each, "guard") for each in GUARDED)]


def _print(results: Results, seconds: float) -> int:
    width = max(len(name) for name in results.rows)
    print(f"{'killed in …, caught by …':<{width}}  points  leaked")
    for name, tally in results.rows.items():
        print(f"{name:<{width}}  {tally.tried:>6}  {len(tally.leaked):>6}")
        for what in tally.leaked:
            print(f"    leaked at {what}")
    tried = sum(tally.tried for tally in results.rows.values())
    leaked = sum(len(tally.leaked) for tally in results.rows.values())
    print(
        f"points tried {tried}, machines leaked {leaked}, foreign machines touched "
        f"{results.touched}; {seconds:.0f} s"
    )
    expected = len(SCENES) + len(_trials())
    return 1 if leaked or results.touched or len(results.rows) != expected else 0


if __name__ == "__main__":
    sys.exit(main())
