"""How long the generator takes for workflow files of 20 nodes, each time in a new process.

    python benchmarks/codegen.py [ROUNDS]

Prints the machine, then median and 95th percentile of: generating 1, 100 and 1,000 workflows into
an empty folder; generating 1,000 unchanged ones again; generating one of 5,000 nodes; `compile()`
of the 1,000 alone; and importing a package until a class is usable, minus a bare interpreter. Then
it prints a profile of generating the 1,000 on one processor.
"""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import print_report

CLASSES = ("KSampler", "CLIPTextEncode", "VAEDecode", "LoadImage", "UNETLoader", "SaveImage")
COMMAND = "import sys; from comfyloom_codegen.cli import codegen; codegen(sys.argv[1:])"
COMPILE = """
import pathlib, sys, time
texts = [path.read_text("utf-8") for path in pathlib.Path(sys.argv[1]).glob("flow_*.py")]
begun = time.perf_counter()
for text in texts:
    compile(text, "x.py", "exec", dont_inherit=True)
print(time.perf_counter() - begun)
"""


def graph(number: int, nodes: int = 20) -> dict[str, Any]:
    """Return a typical graph: a chain of nodes with some values each."""
    chance = random.Random(number)
    made: dict[str, Any] = {}
    for n in range(nodes):
        class_type = CLASSES[n % len(CLASSES)]
        values: dict[str, Any] = {
            "text": f'a {n} "quoted" text',
            "steps": chance.randrange(50),
            "cfg": round(chance.random() * 9, 2),
            "seed": chance.randrange(2**50),
        }
        inputs = dict(list(values.items())[: chance.randrange(1, 5)])
        if n:
            inputs["model"] = [str(n - 1), 0]
        title = f"{class_type} {chance.randrange(12)}"
        made[str(n)] = {"inputs": inputs, "class_type": class_type, "_meta": {"title": title}}
    return made


def write(folder: Path, count: int, nodes: int = 20) -> Path:
    """Write workflow files into a new folder and return it."""
    folder.mkdir()
    for number in range(count):
        (folder / f"flow_{number}.json").write_text(json.dumps(graph(number, nodes)), "utf-8")
    return folder


def seconds(*command: str) -> float:
    """Return the seconds that a command takes in its own process."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def generate(flows: Path, out: Path, *, fresh: bool = True) -> float:
    """Return the seconds that it takes to generate a package."""
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    places = ("--workflows", str(flows), "--out", str(out), "--package", "flows")
    return seconds("-c", COMMAND, *places)


def compiling(out: Path) -> float:
    """Return the seconds that `compile()` takes for all modules of a package."""
    command = [sys.executable, "-c", COMPILE, str(out / "flows")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def importing(out: Path, code: str) -> float:
    """Return the seconds that it takes to run `code`, minus a bare interpreter."""
    script = f"import sys; sys.path.insert(0, {str(out)!r}); {code}"
    return seconds("-c", script) - seconds("-c", "import sys")


def print_profile(flows: Path, out: Path) -> None:
    """Print a profile of generating the package in one process."""
    from comfyloom_codegen import generate_module
    from comfyloom_codegen.pipeline import generate

    generate_module._may_fork = lambda: False
    profile = cProfile.Profile()
    profile.runcall(generate, flows, out, "flows", force=True)
    print("\nProfile of the 1,000 workflows, on one processor and slowed down by the profiler:")
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(10)
    print("\n".join(line for line in text.getvalue().splitlines()[6:] if line))


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        one, hundred, thousand = (write(here / f"w{n}", n) for n in (1, 100, 1000))
        long = write(here / "long", 1, nodes=5000)
        fifty = write(here / "w50", 50)
        for flows in (one, fifty, thousand):
            generate(flows, here / f"kept_{flows.name}")
        kept = here / "kept_w1000"
        used = "w.Flow7Workflow(); w.Flow7Workflow().to_graph()"
        measures: dict[str, Callable[[], float]] = {
            "1 workflow": lambda: generate(one, here / "out"),
            "100 workflows": lambda: generate(hundred, here / "out"),
            "1,000 workflows": lambda: generate(thousand, here / "out"),
            "  of which compile(), one processor": lambda: compiling(kept),
            "1,000 workflows, unchanged": lambda: generate(thousand, kept, fresh=False),
            "1 workflow of 5,000 nodes": lambda: generate(long, here / "out"),
            "import attrs": lambda: importing(here, "import attrs"),
            "import comfyloom_workflows, FluxMeshWorkflow": lambda: importing(
                here, "import comfyloom_workflows as w; w.FluxMeshWorkflow"
            ),
            "import a package of 50 modules, use one class": lambda: importing(
                here / "kept_w50", f"import flows as w; {used}"
            ),
        }
        found: dict[str, list[float]] = {what: [] for what in measures}
        for _ in range(rounds):
            for what, measure in random.sample(sorted(measures.items()), len(measures)):
                found[what].append(measure())
        print_report("The generator", found)
        print_profile(thousand, here / "profiled")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
