"""Runs of comfy-api-simplified, in its own environment: `simplified.py URL TIMES FOLDER`."""

import json
import sys
import time
from pathlib import Path

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

GRAPH = Path(__file__).parents[2] / "generated" / "comfyloom_workflows" / "flux_image.json"
url, times, folder = sys.argv[1:]
api = ComfyApiWrapper(f"{url}/")
work = ComfyWorkflowWrapper(str(GRAPH))
ids = []
post = api.queue_prompt


def queue_prompt(prompt, client_id=None):
    answer = post(prompt, client_id)
    ids.append(answer["prompt_id"])
    return answer


api.queue_prompt = queue_prompt  # the library does not return the prompt id
moments = []
for _ in range(int(times)):
    begun = time.monotonic()
    pictures = api.queue_and_wait_images(work, "EXPORT IMAGE")
    for name, content in pictures.items():
        Path(folder, name).write_bytes(content)
    moments.append((ids[-1], begun, time.monotonic()))
print(json.dumps(moments))
