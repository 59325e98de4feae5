"""The HTTP routes of a server, in one table."""

from collections.abc import Sequence

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.comfyui import control, info, jobs, prompts, uploads, view
from comfyloom_emulator.comfyui.origin import is_foreign
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.server.replies import empty_reply, text_reply
from comfyloom_emulator.server.routing import Handler, Miss, Route, Router

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
    ("GET", "/prompt", control.get_prompt),
    ("GET", "/queue", control.get_queue),
    ("POST", "/queue", control.post_queue),
    ("GET", "/history", control.get_history),
    ("GET", "/history/{prompt_id}", control.get_history_of),
    ("POST", "/history", control.post_history),
    ("POST", "/interrupt", control.interrupt),
    ("POST", "/free", control.free),
    ("POST", "/prompt", prompts.post_prompt),
    ("POST", "/upload/image", uploads.upload_image),
    ("POST", "/upload/mask", uploads.upload_mask),
    ("GET", "/view", view.view),
)
_NEWER: Sequence[tuple[str, str, Handler[ServerState]]] = (
    ("GET", "/api/jobs", jobs.many),
    ("POST", "/api/jobs/cancel", jobs.cancel_many),
    ("GET", "/api/jobs/{id}", jobs.one),
    ("POST", "/api/jobs/{id}/cancel", jobs.cancel),
)
_ROUTER: Router[ServerState] = Router(Route(*entry) for entry in _HANDLERS)
_JOBS: Router[ServerState] = Router(Route(*entry) for entry in _NEWER)


@attrs.frozen
class ComfyUiApi:
    """Answers the HTTP requests to one server."""

    state: ServerState

    async def handle(self, request: Request, path: str) -> Response:
        """The response to a request for a path below the server's address."""
        if is_foreign(request.headers):
            return empty_reply(403)
        if request.method == "OPTIONS":
            return empty_reply()
        found = self._find(request, path)
        if isinstance(found, Miss):
            return _miss(request.method, found)
        if not await _fits(request):
            text = f"Maximum request body size {MAX_BODY_BYTES} exceeded."
            return text_reply(text, 413)
        return await found(self.state, request)

    def _find(self, request: Request, path: str) -> Handler[ServerState] | Miss:
        if self.state.options.is_newer and path.startswith("/api/jobs"):
            return _JOBS.find(request, path)
        path = path.removeprefix("/api") if path.startswith("/api/") else path
        return _ROUTER.find(request, path)


def _miss(method: str, miss: Miss) -> Response:
    # Below the routes lie static files, which know GET and HEAD on any path.
    if method in {"GET", "HEAD"}:
        return Response(status_code=404, headers={"Content-Type": "application/octet-stream"})
    allowed = ",".join(sorted(miss.allowed | {"GET", "HEAD"}))
    return text_reply("405: Method Not Allowed", 405, {"Allow": allowed})


async def _fits(request: Request) -> bool:
    declared = request.headers.get("Content-Length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        return False
    return len(await request.body()) <= MAX_BODY_BYTES
