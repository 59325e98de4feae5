"""The HTTP routes of a ComfyUI server, in one table."""

from collections.abc import Sequence

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui import info, jobs, prompts, queue_routes, uploads, view
from comfyloom_emulator.comfyui.origin_check import is_cross_origin
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.server.replies import empty_reply, text_reply
from comfyloom_emulator.server.routing import Handler, NoRoute, Route, Router

MAX_BODY_BYTES = 100 * 1024 * 1024

_HANDLERS: Sequence[tuple[str, str, Handler[ServerState]]] = (
    ("GET", "/", info.index),
    ("GET", "/system_stats", info.system_stats),
    ("GET", "/features", info.features),
    ("GET", "/object_info", info.object_info),
    ("GET", "/object_info/{name}", info.object_info),
    ("GET", "/models", info.models),
    ("GET", "/models/{folder}", info.model_files),
    ("GET", "/embeddings", info.embeddings),
    ("GET", "/extensions", info.extensions),
    ("GET", "/ws", info.no_upgrade),
    ("GET", "/prompt", queue_routes.get_prompt),
    ("GET", "/queue", queue_routes.get_queue),
    ("POST", "/queue", queue_routes.post_queue),
    ("GET", "/history", queue_routes.get_history),
    ("GET", "/history/{prompt_id}", queue_routes.get_history_of),
    ("POST", "/history", queue_routes.post_history),
    ("POST", "/interrupt", queue_routes.interrupt),
    ("POST", "/free", queue_routes.free),
    ("POST", "/prompt", prompts.post_prompt),
    ("POST", "/upload/image", uploads.upload_image),
    ("POST", "/upload/mask", uploads.upload_mask),
    ("GET", "/view", view.view),
)
_JOB_HANDLERS: Sequence[tuple[str, str, Handler[ServerState]]] = (
    ("GET", "/api/jobs", jobs.list_jobs),
    ("POST", "/api/jobs/cancel", jobs.cancel_jobs),
    ("GET", "/api/jobs/{id}", jobs.get_job),
    ("POST", "/api/jobs/{id}/cancel", jobs.cancel_job),
)
_ROUTER: Router[ServerState] = Router(Route(*entry) for entry in _HANDLERS)
_JOBS_ROUTER: Router[ServerState] = Router(Route(*entry) for entry in _JOB_HANDLERS)
_READ_JOBS_ROUTER: Router[ServerState] = Router(
    Route(*entry) for entry in _JOB_HANDLERS if entry[0] == "GET"
)


@attrs.frozen
class ComfyUIApi:
    """Answers the HTTP requests to one ComfyUI server."""

    state: ServerState

    async def handle(self, request: Request, path: str) -> Response:
        """Return the response to a request for a path below the server's address."""
        if is_cross_origin(request.headers):
            return empty_reply(403)
        if request.method == "OPTIONS":
            return empty_reply()
        handler = self._find(request, path)
        if isinstance(handler, NoRoute):
            return _no_route(request.method, handler)
        if not await _is_within_limit(request):
            text = f"Maximum request body size {MAX_BODY_BYTES} exceeded."
            return text_reply(text, 413)
        return await handler(self.state, request)

    def _find(self, request: Request, path: str) -> Handler[ServerState] | NoRoute:
        options = self.state.options
        if options.describes_jobs and path.startswith("/api/jobs"):
            router = _JOBS_ROUTER if options.is_of_autumn_2026 else _READ_JOBS_ROUTER
            return router.find(request, path)
        path = path.removeprefix("/api") if path.startswith("/api/") else path
        return _ROUTER.find(request, path)


def _no_route(method: str, route: NoRoute) -> Response:
    # ComfyUI serves static files below its routes, so every path has GET and HEAD.
    if method in {"GET", "HEAD"}:
        return Response(status_code=404, headers={"Content-Type": "application/octet-stream"})
    allowed = ",".join(sorted(route.allowed | {"GET", "HEAD"}))
    return text_reply("405: Method Not Allowed", 405, {"Allow": allowed})


async def _is_within_limit(request: Request) -> bool:
    declared = request.headers.get("Content-Length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        return False
    return len(await request.body()) <= MAX_BODY_BYTES
