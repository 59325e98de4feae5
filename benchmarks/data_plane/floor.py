"""A lower bound: the shortest client that works if nothing fails. `floor.py URL TIMES FOLDER`."""

import json
import sys
import time
import uuid
from pathlib import Path

import requests
import websocket

GRAPH = Path(__file__).parents[2] / "generated" / "comfyloom_workflows" / "flux_image.json"
url, times, folder = sys.argv[1:]
graph = json.loads(GRAPH.read_text("utf-8"))
moments = []
http = requests.Session()
for number in range(int(times)):
    begun, client = time.monotonic(), uuid.uuid4().hex
    socket = websocket.create_connection(f"ws{url[4:]}/ws?clientId={client}")
    body = {"prompt": graph, "client_id": client}
    prompt_id = http.post(f"{url}/prompt", json=body).json()["prompt_id"]
    while True:
        event = json.loads(socket.recv())
        if event["type"] == "executing" and event["data"]["node"] is None:
            break
    socket.close()
    outputs = http.get(f"{url}/history/{prompt_id}").json()[prompt_id]["outputs"]
    file = outputs["24"]["images"][0]
    path = Path(folder, f"{number}.png")
    path.write_bytes(http.get(f"{url}/view", params=file).content)
    moments.append((prompt_id, begun, time.monotonic()))
print(json.dumps(moments))
