"""POST /prompt."""

import json
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui import problems
from comfyloom_emulator.comfyui.history import without_secrets
from comfyloom_emulator.comfyui.jobs import is_canonical
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.comfyui.validation import validate
from comfyloom_emulator.server.replies import json_reply


async def post_prompt(state: ServerState, request: Request) -> Response:
    """Validate a graph and put it into the queue."""
    data: Any = json.loads(await request.body())
    number = state.queue.number(data)
    if "prompt" not in data:
        text = "No prompt provided"
        return _refusal(problems.error("no_prompt", text, text), {})
    targets = data.get("partial_execution_targets")
    prompt_id = _prompt_id(state, data)
    if prompt_id is None:
        text = "prompt_id must be a lower-case, hyphenated UUID"
        return _refusal(problems.error("invalid_prompt_id", text, str(data["prompt_id"])), {})
    graph = data["prompt"]
    verdict = validate(graph, targets, state.schemas, state.nodes, state.folders)
    extra_data = data.get("extra_data", {})
    if "client_id" in data:
        extra_data["client_id"] = data["client_id"]
    if state.options.is_newer:
        extra_data = without_secrets({**extra_data, "create_time": int(state.clock.now() * 1000)})
    if verdict.error is not None:
        return _refusal(verdict.error, verdict.node_errors)
    state.note_prompt(prompt_id)
    state.queue.put((number, prompt_id, graph, extra_data, verdict.outputs))
    state.announce_queue()
    return json_reply(
        {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
    )


def _prompt_id(state: ServerState, data: Any) -> str | None:
    """The id of a posted prompt; None if it is one that newer servers refuse."""
    if not state.options.is_newer:
        return str(data.get("prompt_id", uuid.uuid4()))
    if data.get("prompt_id") is None:
        return str(uuid.uuid4())
    return str(data["prompt_id"]) if is_canonical(data["prompt_id"]) else None


def _refusal(error: dict[str, Any], node_errors: dict[str, Any]) -> Response:
    return json_reply({"error": error, "node_errors": node_errors}, 400)
