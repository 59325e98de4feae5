"""One large result: `large.py URL FOLDER`; prints seconds and memory growth in kB."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.downloads import Download, fetch
from comfyloom._comfyui.history import FileReference
from comfyloom._workflow.outputs import OutputSpec


def resident() -> int:
    """Return the resident memory in kB."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


url, folder = sys.argv[1:]
server = ComfyUI(url)
server.system_stats()
before, peak, is_done = resident(), [0], threading.Event()


def watch() -> None:
    """Record the peak memory."""
    while not is_done.wait(0.02):
        peak[0] = max(peak[0], resident())


spec = OutputSpec(kind="file", node="1", name="large")
item = Download(spec, FileReference(filename="large.bin"), "large.bin")
watcher = threading.Thread(target=watch)
watcher.start()
begun = time.monotonic()
path = fetch(server, item, Path(folder), "id", scope=CancelScope())
seconds = time.monotonic() - begun
is_done.set()
watcher.join()
print(json.dumps({"seconds": seconds, "bytes": path.stat().st_size, "kB": peak[0] - before}))
