"""Routes for queue, history, interrupt and free."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui.queue import QueueItem
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.server.replies import empty_reply, json_reply


async def get_prompt(state: ServerState, _request: Request) -> Response:
    """GET /prompt."""
    return json_reply({"exec_info": {"queue_remaining": state.queue.remaining}})


async def get_queue(state: ServerState, _request: Request) -> Response:
    """GET /queue."""
    running: list[QueueItem] = [] if state.queue.running is None else [state.queue.running]
    return json_reply({"queue_running": running, "queue_pending": state.queue.pending})


async def post_queue(state: ServerState, request: Request) -> Response:
    """POST /queue: remove pending prompts; no event names them."""
    data: Any = json.loads(await request.body())
    if data.get("clear"):
        _report_removed(state, state.queue.clear())
    if "delete" in data:
        _report_removed(state, state.queue.remove([*data["delete"]]))
    return empty_reply()


def _report_removed(state: ServerState, prompt_ids: list[str]) -> None:
    for prompt_id in prompt_ids:
        state.set_status(prompt_id, "deleted")
    if prompt_ids:
        state.publish_queue_size()


async def get_history(state: ServerState, request: Request) -> Response:
    """GET /history."""
    query = request.query_params
    max_items = int(query["max_items"]) if "max_items" in query else None
    return json_reply(state.history.page(max_items, int(query.get("offset", "-1"))))


async def get_history_of(state: ServerState, request: Request) -> Response:
    """GET /history/{prompt_id}."""
    return json_reply(state.history.get(request.path_params["prompt_id"]))


async def post_history(state: ServerState, request: Request) -> Response:
    """POST /history: remove entries."""
    data: Any = json.loads(await request.body())
    if data.get("clear"):
        state.history.clear()
    if "delete" in data:
        state.history.delete([*data["delete"]])
    return empty_reply()


async def interrupt(state: ServerState, request: Request) -> Response:
    """POST /interrupt: set the interrupt flag, or, if a prompt is named, only while it runs."""
    try:
        data: Any = json.loads(await request.body())
    except ValueError:
        data = {}
    prompt_id = data.get("prompt_id")
    running = state.queue.running
    if not prompt_id or (running is not None and running[1] == prompt_id):
        state.interrupted.set()
    return empty_reply()


async def free(state: ServerState, request: Request) -> Response:
    """POST /free."""
    data: Any = json.loads(await request.body())
    if data.get("free_memory"):
        state.is_free_requested = True
        if state.queue.running is None:
            state.is_free_requested = False
            state.cache.clear()
    return empty_reply()
