"""Many runs in one session: `growth.py URL TIMES`; prints memory, threads and open files."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import threading
from pathlib import Path

from comfyloom import RunComfySession
from comfyloom_workflows import FluxImageWorkflow


def now() -> dict[str, int]:
    """Return the resident memory in kB, threads and open files of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text("ascii")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "kB": int(resident.split()[1]),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


url, times = sys.argv[1], int(sys.argv[2])
seen = []
with RunComfySession(url) as session, tempfile.TemporaryDirectory() as folder:
    for number in range(times):
        session.run(FluxImageWorkflow(prompt="a robot", seed=number), out_dir=folder)
        if number + 1 in (times // 10, times // 2, times):
            seen.append({"runs": number + 1, **now()})
print(json.dumps(seen))
