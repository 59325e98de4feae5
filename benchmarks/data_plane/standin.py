"""A stand-in for ComfyUI that does no work and records exactly when each run ended.

    python standin.py PORT_FILE

`POST /_bench` sets the duration of jobs. The stand-in runs in its own process, so that it does not
share an interpreter with the measured client.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PICTURE_BYTES = 1_200_000
STEP_S = 0.05

settings: dict[str, Any] = {"job_s": 1.0, "jitter_s": 0.0, "socket": True, "big_file": ""}
history: dict[str, Any] = {}
ended: dict[str, float] = {}
pending: list[tuple[int, str, dict[str, Any], str]] = []
running: list[tuple[int, str, dict[str, Any], str]] = []
sockets: dict[str, WebSocket] = {}
arrived: asyncio.Event = asyncio.Event()
counts: dict[str, int] = {"requests": 0, "sockets": 0, "open": 0, "most_open": 0}


def picture() -> bytes:
    """Return a PNG of about 1.2 MB: noise, which does not compress."""
    side = int((PICTURE_BYTES / 3) ** 0.5)
    rows = b"".join(b"\0" + random.randbytes(3 * side) for _ in range(side))

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


PICTURE = picture()


async def send_event(owner: str, kind: str, **data: Any) -> None:
    """Send an event to the client that submitted the prompt."""
    if (socket := sockets.get(owner)) is not None:
        try:
            await socket.send_text(json.dumps({"type": kind, "data": data}))
        except (RuntimeError, WebSocketDisconnect):
            sockets.pop(owner, None)


async def work() -> None:
    """Run one prompt after the other, and send events as ComfyUI does."""
    while True:
        while not pending:
            arrived.clear()
            await arrived.wait()
        running[:] = [pending.pop(0)]
        number, prompt_id, graph, owner = running[0]
        await send_event(owner, "execution_start", prompt_id=prompt_id, timestamp=0)
        await send_event(owner, "execution_cached", nodes=[], prompt_id=prompt_id, timestamp=0)
        node = next(iter(graph))
        await send_event(owner, "executing", node=node, display_node=node, prompt_id=prompt_id)
        end = time.monotonic() + settings["job_s"] + random.uniform(0, settings["jitter_s"])
        step = 0
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(STEP_S, left))
            step += 1
            await send_event(owner, "progress", value=step, max=100, prompt_id=prompt_id, node=node)
        saving = [name for name, each in graph.items() if each["class_type"] == "SaveImage"]
        file = {"filename": f"{prompt_id}.png", "subfolder": "", "type": "output"}
        outputs = {name: {"images": [file]} for name in saving}
        await send_event(owner, "execution_success", prompt_id=prompt_id, timestamp=0)
        await asyncio.sleep(0.001)
        history[prompt_id] = {
            "prompt": [number, prompt_id, graph, {}, saving],
            "outputs": outputs,
            "status": {"status_str": "success", "completed": True, "messages": []},
        }
        running.clear()
        ended[prompt_id] = time.monotonic()
        await send_event(owner, "status", status={"exec_info": {"queue_remaining": len(pending)}})
        await send_event(owner, "executing", node=None, prompt_id=prompt_id)


async def prompt(request: Request) -> Response:
    """Answer POST /prompt."""
    data = await request.json()
    prompt_id = data.get("prompt_id") or str(uuid.uuid4())
    number = len(history) + len(pending)
    pending.append((number, prompt_id, data["prompt"], data.get("client_id", "")))
    arrived.set()
    return JSONResponse({"prompt_id": prompt_id, "number": number, "node_errors": {}})


async def history_of(request: Request) -> Response:
    """Answer GET /history/{id}."""
    prompt_id = request.path_params["id"]
    return JSONResponse({prompt_id: history[prompt_id]} if prompt_id in history else {})


async def queue(_: Request) -> Response:
    """Answer GET /queue."""
    rows = [[[each[0], each[1], each[2], {}, []] for each in part] for part in (running, pending)]
    return JSONResponse({"queue_running": rows[0], "queue_pending": rows[1]})


async def upload(request: Request) -> Response:
    """Answer POST /upload/image: read the bytes and discard them."""
    async for _ in request.stream():
        pass
    return JSONResponse({"name": "input.png", "subfolder": "", "type": "input"})


async def view(request: Request) -> Response:
    """Answer GET /view."""
    if request.query_params["filename"].endswith(".bin"):
        return FileResponse(settings["big_file"])
    return Response(PICTURE, headers={"Content-Type": "image/png", "ETag": '"one"'})


async def stats(_: Request) -> Response:
    """Answer GET /system_stats."""
    return JSONResponse({"system": {"comfyui_version": "0.3.64"}, "devices": []})


async def bench(request: Request) -> Response:
    """Answer POST /_bench: change settings, and return the counts since the last call."""
    settings.update(await request.json())
    counted = dict(counts)
    counts.update(requests=0, sockets=0, most_open=counts["open"])
    return JSONResponse({**counted, "ended": ended})


async def events(socket: WebSocket) -> None:
    """Serve /ws."""
    if not settings["socket"]:
        await socket.close(1011)
        return
    client = socket.query_params.get("clientId", "")
    await socket.accept()
    counts["sockets"] += 1
    counts["open"] += 1
    counts["most_open"] = max(counts["most_open"], counts["open"])
    sockets[client] = socket
    status = {"exec_info": {"queue_remaining": len(pending) + len(running)}}
    await send_event(client, "status", status=status, sid=client)
    try:
        while True:
            await socket.receive()
    except (RuntimeError, WebSocketDisconnect):
        pass
    finally:
        counts["open"] -= 1
        if sockets.get(client) is socket:
            del sockets[client]


routes = [
    Route("/prompt", prompt, methods=["POST"]),
    Route("/history/{id}", history_of),
    Route("/queue", queue),
    Route("/upload/image", upload, methods=["POST"]),
    Route("/view", view),
    Route("/system_stats", stats),
    Route("/_bench", bench, methods=["POST"]),
    WebSocketRoute("/ws", events),
]
application = Starlette(routes=routes)


async def counted(scope: Any, receive: Any, send: Any) -> None:
    """Count the client's requests; those to /_bench do not count."""
    if scope["type"] == "http" and not scope["path"].startswith("/_"):
        counts["requests"] += 1
    await application(scope, receive, send)


async def main() -> None:
    """Serve until the process is terminated."""
    from comfyloom_emulator.server.thread import listen

    listener = listen(0)
    server = uvicorn.Server(uvicorn.Config(counted, log_level="error", ws_ping_interval=None))
    worker = asyncio.create_task(work())
    Path(sys.argv[1]).write_text(str(listener.getsockname()[1]), encoding="ascii")
    await server.serve(sockets=[listener])
    worker.cancel()


if __name__ == "__main__":
    asyncio.run(main())
