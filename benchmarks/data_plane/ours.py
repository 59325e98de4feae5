"""Runs of comfyloom, measured like the other clients: `ours.py URL TIMES FOLDER [upload]`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from comfyloom import RunComfySession
from comfyloom_workflows import FluxDepthWorkflow, FluxImageWorkflow

url, times, folder, *rest = sys.argv[1:]
out = Path(folder)
render = Path(__file__).parents[2] / "examples" / "render.png"
moments = []
with RunComfySession(url) as session:
    for number in range(int(times)):
        if rest == ["upload"]:
            content = render.read_bytes() + os.urandom(8)  # unique, so that it is sent each time
            work: FluxDepthWorkflow | FluxImageWorkflow = FluxDepthWorkflow(
                input_image=content, prompt=f"a robot {number}"
            )
        else:
            work = FluxImageWorkflow(prompt=f"a robot {number}")
        begun = time.monotonic()
        result = session.run(work, out_dir=out / str(number))
        moments.append((result.prompt_id, begun, time.monotonic()))
        assert result.image.size > 1_000_000
print(json.dumps(moments))
