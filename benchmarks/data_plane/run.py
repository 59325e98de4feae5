"""The speed of the data plane next to other clients, on a stand-in server on this computer.

    python benchmarks/data_plane/run.py [TIMES] [--json FILE] [--write]

Each client runs in its own process, those from PyPI in their own environment, in rounds of random
order. `--write` writes the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from report import p95

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- data plane -->", "<!-- end of data plane -->"
RIVALS = {"comfy-api-simplified": "1.6.0", "comfy-sdk": "0.5.0"}
JOB_S = 1.0
ROUND = 5
LARGE_BYTES = 500_000_000
IMPORTS = {
    "a bare interpreter": (None, "pass"),
    "comfyloom, a session": (
        None,
        "from comfyloom import RunComfySession; RunComfySession('http://127.0.0.1:1')",
    ),
    "comfyloom, a session and what its first run loads": (
        None,
        (
            "from comfyloom import RunComfySession; RunComfySession('http://127.0.0.1:1')\n"
            "import requests, websocket, platformdirs"
        ),
    ),
    "comfyloom, a workflow class": (None, "from comfyloom_workflows import FluxImageWorkflow"),
    "requests and websocket-client alone": (None, "import requests, websocket"),
    "comfy-api-simplified": (
        "comfy-api-simplified",
        "from comfy_api_simplified import ComfyApiWrapper; ComfyApiWrapper('http://127.0.0.1:1')",
    ),
    "comfy-sdk": ("comfy-sdk", "from comfy_sdk import Comfy; Comfy()"),
}


class Server:
    """The stand-in server, its settings and its counts."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, **changes: Any) -> dict[str, Any]:
        """Change its settings, and return its counts since the last call."""
        body = json.dumps(changes).encode()
        request = urllib.request.Request(f"{self.url}/_bench", body, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def standin() -> Iterator[Server]:
    """Run the stand-in server in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, str(HERE / "standin.py"), str(port)])
        try:
            while not (port.is_file() and port.read_text("ascii")):
                time.sleep(0.05)
            yield Server(f"http://127.0.0.1:{port.read_text('ascii')}")
        finally:
            process.terminate()
            process.wait()


def environments(folder: Path) -> dict[str, str]:
    """Install each client from PyPI into its own environment; return the interpreters by name."""
    found = {}
    for name, release in RIVALS.items():
        home = folder / name
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        python = str(home / "bin" / "python")
        install = [python, "-m", "pip", "install", "-q", f"{name}=={release}"]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        found[name] = python
    return found


def client(python: str, script: str, *arguments: str) -> Any:
    """Run a client and return the JSON that it printed."""
    command = [python, str(HERE / script), *arguments]
    environment = {**os.environ, "COMFY_API_KEY": "x"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr}")
    return json.loads(done.stdout)


def rounds(server: Server, clients: dict[str, tuple[str, str, list[str]]], times: int) -> Any:
    """Run all clients in rounds of random order; return the measurements by client."""
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    order = [name for name in clients for _ in range(-(-times // ROUND))]
    random.shuffle(order)
    for name in order:
        python, script, extra = clients[name]
        server.ask()
        with tempfile.TemporaryDirectory() as folder:
            moments = client(python, script, server.url, str(ROUND), folder, *extra)
        counted = server.ask()
        for prompt_id, begun, over in moments:
            measured[name]["late"].append(over - counted["ended"][prompt_id])
            measured[name]["overhead"].append(over - begun - JOB_S)
        measured[name]["requests"].append(counted["requests"] / ROUND)
    return measured


def imports(pythons: dict[str, str], times: int) -> dict[str, list[float]]:
    """Return the seconds that each import takes in a new interpreter; run in random order."""
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    order = [name for name in IMPORTS for _ in range(times)]
    random.shuffle(order)
    environment = {**os.environ, "COMFY_API_KEY": "x"}
    for name in [*IMPORTS, *order]:
        home, code = IMPORTS[name]
        python = pythons[home] if home else sys.executable
        begun = time.perf_counter()
        subprocess.run([python, "-c", code], check=True, env=environment)
        found[name].append(time.perf_counter() - begun)
    return {name: seconds[1:] for name, seconds in found.items()}  # the first run filled the caches


def large(server: Server, times: int) -> dict[str, list[float]]:
    """Return the seconds of a large download by comfyloom and by curl, and our growth in MB."""
    found: dict[str, list[float]] = {"comfyloom": [], "curl": [], "growth": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.bin"
        path.write_bytes(os.urandom(LARGE_BYTES // 100) * 100)
        server.ask(big_file=str(path))
        for number in range(times):
            for name in random.sample(["comfyloom", "curl"], 2):
                target = Path(folder) / f"{name}{number}"
                target.mkdir()
                if name == "curl":
                    url = f"{server.url}/view?filename=large.bin"
                    begun = time.monotonic()
                    subprocess.run(["curl", "-s", "-o", str(target / "x"), url], check=True)
                    found[name].append(time.monotonic() - begun)
                else:
                    loaded = client(sys.executable, "large.py", server.url, str(target))
                    assert loaded["bytes"] == LARGE_BYTES
                    found[name].append(loaded["seconds"])
                    found["growth"].append(loaded["kB"] / 1000)
                for each in target.iterdir():
                    each.unlink()
    return found


def measure(times: int) -> dict[str, Any]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as folder, standin() as server:
        os.environ["COMFYLOOM_CACHE_DIR"] = str(Path(folder) / "cache")  # not the user's
        pythons = environments(Path(folder))
        mine = sys.executable
        figures: dict[str, Any] = {"imports": imports(pythons, times)}
        server.ask(job_s=JOB_S)
        clients = {
            "comfyloom": (mine, "ours.py", []),
            "comfyloom, with an upload": (mine, "ours.py", ["upload"]),
            "20 lines of requests and websocket-client": (mine, "floor.py", []),
            "comfy-api-simplified": (pythons["comfy-api-simplified"], "simplified.py", []),
        }
        figures["runs"] = rounds(server, clients, times)
        # Without jitter, all runs would end at the moment of a poll.
        server.ask(socket=False, jitter_s=0.25)
        alone = {"comfyloom": clients["comfyloom"]}
        figures["polling"] = rounds(server, alone, 4 * times)["comfyloom"]
        server.ask(job_s=5.0, jitter_s=0.0)
        server.ask()
        with tempfile.TemporaryDirectory() as out:
            ((prompt_id, _, over),) = client(mine, "ours.py", server.url, "1", out)
        counted = server.ask(socket=True)
        figures["polling 5 s"] = {"requests": counted["requests"], "late": over}
        figures["polling 5 s"]["late"] -= counted["ended"][prompt_id]
        server.ask(job_s=0.0)
        figures["growth"] = client(mine, "growth.py", server.url, "1000")
        server.ask(job_s=0.02)
        server.ask()
        many = client(mine, "many.py", server.url, "64")
        counted = server.ask()
        figures["many"] = many | {key: counted[key] for key in ("requests", "sockets", "most_open")}
        figures["large"] = large(server, max(3, times // 2))
    return figures


def tables(figures: dict[str, Any]) -> list[str]:
    """Return the tables as Markdown."""
    rivals = ", ".join(f"{name} {release}" for name, release in RIVALS.items())
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} virtual processors (shared), "
        f"Python {platform.python_version()}, comfyloom {version('comfyloom')}, requests "
        f"{version('requests')}, websocket-client {version('websocket-client')}, {rivals}; "
        "median / 95th percentile."
    )
    head = (
        "| client | end on the server → bytes on disk | over the run's own time "
        "| requests per run |"
    )
    lines = ["", machine, "", f"A run of {JOB_S:g} s with one PNG of 1.2 MB:", "", head]
    lines.append("| --- | --- | --- | --- |")
    for name, each in figures["runs"].items():
        requests = statistics.mean(each["requests"])
        lines.append(f"| {name} | {_ms(each['late'])} | {_ms(each['overhead'])} | {requests:.1f} |")
    polled = figures["polling"]
    requests = statistics.mean(polled["requests"])
    lines.append(
        f"| comfyloom, socket refused, 1 to 1.25 s | {_ms(polled['late'])} | | {requests:.1f} |"
    )
    five, many, last = figures["polling 5 s"], figures["many"], figures["growth"][-1]
    fetched, curl = figures["large"]["comfyloom"], figures["large"]["curl"]
    share = statistics.median(curl) / statistics.median(fetched)
    grown = "; ".join(
        f"after {each['runs']} runs {each['kB'] / 1000:.1f} MB, {each['threads']} threads, "
        f"{each['files']} open files"
        for each in figures["growth"]
    )
    lines += ["", f"- A run of 5 s without a socket: {five['requests']} requests in all, "]
    lines[-1] += f"{1000 * five['late']:.0f} ms late."
    lines.append(f"- 64 runs of 20 ms at once: {many['most_open']} socket, ")
    lines[-1] += f"{many['requests']} requests, all results after {many['seconds']:.2f} s."
    lines.append(f"- {last['runs']} runs in one session: {grown}.")
    lines.append(f"- 500 MB: {statistics.median(fetched):.2f} s, curl ")
    lines[-1] += f"{statistics.median(curl):.2f} s ({share:.2f} of its speed), memory growth "
    lines[-1] += f"at most {max(figures['large']['growth']):.1f} MB ({len(fetched)} times each)."
    lines += ["", "From the start of an interpreter to a usable client:", ""]
    lines += ["| what | seconds | over the bare interpreter |", "| --- | --- | --- |"]
    bare = statistics.median(figures["imports"]["a bare interpreter"])
    for name, seconds in figures["imports"].items():
        more = 1000 * (statistics.median(seconds) - bare)
        lines.append(f"| {name} | {_ms(seconds)} | {more:.0f} ms |")
    return [*lines, ""]


def _ms(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f} / {1000 * p95(seconds):.1f} ms"


def main() -> None:
    """Measure, print the tables, and write them if asked to."""
    arguments = sys.argv[1:]
    times = next((int(word) for word in arguments if word.isdecimal()), 20)
    figures = measure(times)
    if "--json" in arguments:
        target = Path(arguments[arguments.index("--json") + 1])
        target.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    table = "\n".join(tables(figures))
    print(table)
    if "--write" in arguments:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
