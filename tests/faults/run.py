"""Run every scenario several times, and write the fault table of the documentation.

    python tests/faults/run.py [TIMES] [--write]

Without `--write` the table is printed.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from faults.trial import SCENARIOS, Trial, expected, try_out

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
GROUPS = {"socket": "The event socket", "http": "Requests", "run": "The run"}


def main() -> None:
    """Run, count, and print or write."""
    times = next((int(word) for word in sys.argv[1:] if word.isdecimal()), 3)
    os.environ["COMFYLOOM_CACHE_DIR"] = tempfile.mkdtemp(prefix="comfyloom-faults-")
    logging.getLogger("comfyloom").setLevel(logging.CRITICAL)
    trials: dict[str, list[Trial]] = defaultdict(list)
    for round_number in range(times):
        for name in SCENARIOS:
            with tempfile.TemporaryDirectory() as folder:
                trials[name].append(trial := try_out(name, Path(folder) / "out"))
            if _bad(name, trial):
                print(f"{name}: {trial}", file=sys.stderr)
        print(f"round {round_number + 1} of {times}", file=sys.stderr)
    table = "\n".join(_lines(trials))
    if "--write" in sys.argv:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", "utf-8")
    else:
        print(table)
    sys.exit(any(_bad(name, each) for name in trials for each in trials[name]))


def _lines(trials: dict[str, list[Trial]]) -> list[str]:
    every = [each for found in trials.values() for each in found]
    results = sum(each.outcome == "result" for each in every)
    second = sum(max(0, each.accepted - 1) for each in every)
    left = sum(len(each.left) for each in every)
    bad = sum(_bad(name, each) for name, found in trials.items() for each in found)
    lines = [
        "",
        (
            f"{len(trials)} faults, {len(every)} runs: {results} right results, "
            f"{len(every) - results} typed errors, {bad} other outcomes. "
            f"Second GPU runs: {second}. Files left behind: {left}."
        ),
    ]
    for group, title in GROUPS.items():
        lines += ["", f"### {title}", "", "| fault | name | ends with | as listed | median |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for name, found in trials.items():
            if SCENARIOS[name].group == group:
                good = sum(not _bad(name, each) for each in found)
                seconds = statistics.median(each.seconds for each in found)
                ends = expected(name)
                ends = ends if ends == "result" else f"`{ends}`"
                lines.append(
                    f"| {SCENARIOS[name].title} | `{name}` | {ends} | {good} of {len(found)} "
                    f"| {seconds:.2f} s |"
                )
    return [*lines, ""]


def _bad(name: str, trial: Trial) -> bool:
    return bool(
        trial.outcome != expected(name)
        or trial.left
        or trial.wrong
        or trial.threads
        or trial.unstruck
        or trial.accepted > 1
    )


if __name__ == "__main__":
    main()
