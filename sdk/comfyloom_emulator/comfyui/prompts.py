"""POST /prompt."""

import json
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui import validation_errors
from comfyloom_emulator.comfyui.history import without_secrets
from comfyloom_emulator.comfyui.jobs import is_canonical
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.comfyui.validation import validate
from comfyloom_emulator.server.replies import json_reply


async def post_prompt(state: ServerState, request: Request) -> Response:
    """Validate a graph and queue it."""
    data: Any = json.loads(await request.body())
    number = state.queue.number(data)
    if "prompt" not in data:
        text = "No prompt provided"
        return _refusal(validation_errors.error_object("no_prompt", text, text), {})
    targets = data.get("partial_execution_targets")
    prompt_id = _prompt_id(state, data)
    if prompt_id is None:
        text = "prompt_id must be a lower-case, hyphenated UUID"
        return _refusal(
            validation_errors.error_object("invalid_prompt_id", text, str(data["prompt_id"])), {}
        )
    graph = data["prompt"]
    result = validate(graph, targets, state.schemas, state.nodes, state.folders)
    extra_data = data.get("extra_data", {})
    if "client_id" in data:
        extra_data["client_id"] = data["client_id"]
    if state.options.is_of_autumn_2026:
        shown = without_secrets(extra_data)
        state.secrets[prompt_id] = {k: v for k, v in extra_data.items() if k not in shown}
        extra_data = {**shown, "create_time": int(state.clock.now() * 1000)}
    if result.error is not None:
        return _refusal(result.error, result.node_errors)
    state.record_prompt(prompt_id)
    state.queue.put((number, prompt_id, graph, extra_data, result.outputs))
    state.publish_queue_size()
    return json_reply({"prompt_id": prompt_id, "number": number, "node_errors": result.node_errors})


def _prompt_id(state: ServerState, data: Any) -> str | None:
    """Return the id of a posted prompt; None if newer servers refuse it."""
    if not state.options.is_of_autumn_2026:
        return str(data.get("prompt_id", uuid.uuid4()))
    if data.get("prompt_id") is None:
        return str(uuid.uuid4())
    return str(data["prompt_id"]) if is_canonical(data["prompt_id"]) else None


def _refusal(error: dict[str, Any], node_errors: dict[str, Any]) -> Response:
    return json_reply({"error": error, "node_errors": node_errors}, 400)
