"""Concurrent runs: `many.py URL RUNS`; prints the seconds until all have ended."""

from __future__ import annotations

import json
import sys
import tempfile
import time

from comfyloom import RunComfySession
from comfyloom_workflows import FluxImageWorkflow

url, runs = sys.argv[1], int(sys.argv[2])
with RunComfySession(url) as session, tempfile.TemporaryDirectory() as folder:
    begun = time.monotonic()
    going = [
        session.submit(FluxImageWorkflow(prompt="x", seed=each), out_dir=f"{folder}/{each}")
        for each in range(runs)
    ]
    for run in going:
        run.wait()
    print(json.dumps({"seconds": time.monotonic() - begun}))
