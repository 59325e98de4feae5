"""The jobs API of newer servers, which covers queue and history."""

import json
import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui.queue import QueueItem
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.json_access import as_object
from comfyloom_emulator.server.replies import json_reply

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EVENTS = {
    "execution_start": "execution_start_time",
    "execution_success": "execution_end_time",
    "execution_error": "execution_end_time",
    "execution_interrupted": "execution_end_time",
}


def is_canonical(prompt_id: object) -> bool:
    """Return whether an id is a lower-case hyphenated UUID."""
    return isinstance(prompt_id, str) and _CANONICAL.fullmatch(prompt_id) is not None


async def get_job(state: ServerState, request: Request) -> Response:
    """GET /api/jobs/{id}."""
    prompt_id = request.path_params["id"]
    found = next((job for job in _all_jobs(state, full=True) if job["id"] == prompt_id), None)
    return json_reply({"error": "Job not found"}, 404) if found is None else json_reply(found)


async def list_jobs(state: ServerState, request: Request) -> Response:
    """GET /api/jobs."""
    query = request.query_params
    statuses = [each for each in query.get("status", "").split(",") if each]
    invalid = [each for each in statuses if each not in STATUSES]
    if invalid:
        return json_reply({"error": f"Invalid status: {invalid[0]}"}, 400)
    if query.get("sort_by", "created_at") not in {"created_at", "execution_duration"}:
        return json_reply({"error": "Invalid sort_by"}, 400)
    if query.get("sort_order", "desc") not in {"asc", "desc"}:
        return json_reply({"error": "Invalid sort_order"}, 400)
    jobs = [
        job for job in _all_jobs(state, full=False) if not statuses or job["status"] in statuses
    ]
    jobs.sort(key=_sort_key(query.get("sort_by", "")), reverse=query.get("sort_order") != "asc")
    numbers = {name: query.get(name, "0") for name in ("offset", "limit")}
    if invalid := [name for name, text in numbers.items() if not text.isdecimal()]:
        return json_reply({"error": f"Invalid {invalid[0]}"}, 400)
    offset, limit = int(numbers["offset"]), int(numbers["limit"]) or len(jobs)
    page = {
        "offset": offset,
        "limit": limit,
        "total": len(jobs),
        "has_more": offset + limit < len(jobs),
    }
    return json_reply({"jobs": jobs[offset : offset + limit], "pagination": page})


async def cancel_job(state: ServerState, request: Request) -> Response:
    """POST /api/jobs/{id}/cancel."""
    prompt_id = request.path_params["id"]
    if not is_canonical(prompt_id):
        return json_reply({"error": "Invalid job id", "invalid_ids": [prompt_id]}, 400)
    return json_reply({"cancelled": _cancel(state, prompt_id)})


async def cancel_jobs(state: ServerState, request: Request) -> Response:
    """POST /api/jobs/cancel."""
    data = as_object(json.loads(await request.body())) or {}
    given = data.get("job_ids")
    ids: list[object] = [*given] if isinstance(given, list) else [given]  # pyright: ignore
    invalid = [each for each in ids if not is_canonical(each)]
    if invalid:
        return json_reply({"error": "Invalid job ids", "invalid_ids": invalid}, 400)
    cancelled = [_cancel(state, str(each)) for each in ids]
    return json_reply({"cancelled": any(cancelled)})


def _cancel(state: ServerState, prompt_id: str) -> bool:
    """Cancel a prompt and return whether it was pending or running."""
    removed = state.queue.remove([prompt_id])
    for each in removed:
        state.set_status(each, "deleted")
    if removed:
        state.publish_queue_size()
        return True
    running = state.queue.running
    if running is not None and running[1] == prompt_id:
        state.interrupted.set()
        return True
    return False


def _sort_key(sort_by: str) -> Callable[[dict[str, Any]], float]:
    if sort_by == "execution_duration":
        return lambda job: job.get("execution_end_time", 0) - job.get("execution_start_time", 0)
    return lambda job: job.get("create_time", 0)


def _all_jobs(state: ServerState, *, full: bool) -> list[dict[str, Any]]:
    jobs = [
        _unfinished_job(item, "pending")
        for item in sorted(state.queue.pending, key=lambda each: each[:2])
    ]
    if state.queue.running is not None:
        jobs.append(_unfinished_job(state.queue.running, "in_progress"))
    return jobs + [
        _finished_job(entry, full=full) for entry in state.history.page(None, 0).values()
    ]


def _unfinished_job(item: QueueItem, status: str) -> dict[str, Any]:
    job = {"id": item[1], "status": status, "priority": item[0], "outputs_count": 0}
    created = (as_object(item[3]) or {}).get("create_time")
    return job if created is None else {**job, "create_time": created}


def _finished_job(entry: dict[str, Any], *, full: bool) -> dict[str, Any]:
    number, prompt_id, graph, extra_data, _targets = entry["prompt"]
    names = [name for name, _ in entry["status"]["messages"]]
    values = [each for ui in entry["outputs"].values() for each in ui.values()]
    files = [file for each in values for file in _files(each)]
    job: dict[str, Any] = {
        **_unfinished_job((number, prompt_id, graph, extra_data, []), _status(entry, names)),
        "outputs_count": len(files),
        "previewable_outputs_count": len(files),
    }
    for name, data in entry["status"]["messages"]:
        if name in _EVENTS:
            job[_EVENTS[name]] = data["timestamp"]
        if name == "execution_error":
            job["execution_error"] = data
    if full:
        job["outputs"] = entry["outputs"]
        job["execution_status"] = entry["status"]
        job["workflow"] = {"prompt": graph, "extra_data": extra_data}
    return job


def _files(values: Any) -> list[Any]:
    found = values if isinstance(values, list) else []  # pyright: ignore
    return [each for each in found if "filename" in (as_object(each) or {})]  # pyright: ignore


def _status(entry: dict[str, Any], names: list[str]) -> str:
    if "execution_interrupted" in names:
        return "cancelled"
    return "completed" if entry["status"]["status_str"] == "success" else "failed"
