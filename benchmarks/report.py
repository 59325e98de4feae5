"""The report of a benchmark: machine, versions, medians and 95th percentiles."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version


def print_report(title: str, measured: Mapping[str, Sequence[float]]) -> None:
    """Print measured seconds by name: median, 95th percentile, number of measurements."""
    print(title)
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, comfyloom {version('comfyloom')}, "
        f"requests {version('requests')}"
    )
    width = max(map(len, measured))
    print(f"{'':<{width}}    median        p95  times")
    for name, seconds in measured.items():
        median = statistics.median(seconds)
        print(f"{name:<{width}}  {_time(median)}  {_time(p95(seconds))}  {len(seconds):5}")


def _time(seconds: float) -> str:
    return f"{seconds:6.2f} s " if seconds >= 0.2 else f"{1000 * seconds:6.0f} ms"


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]
