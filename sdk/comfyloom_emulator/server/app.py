"""The ASGI application: passes each request to its API and logs it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.faults import SocketFault
from comfyloom_emulator.request_log import RequestLog, RequestRecord
from comfyloom_emulator.server.fault_injection import respond
from comfyloom_emulator.server.replies import refuse_handshake, server_error_reply

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

_LOGGER = logging.getLogger("comfyloom.emulator")
_SERVER = b"Python/3.11 aiohttp/3.14.5"


class Api(Protocol):
    """Answers the requests under one path prefix."""

    async def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        ...


class Website(Api, Protocol):
    """An API with paths of its own."""

    def knows(self, request: Request) -> bool:
        """Return whether a path is one of its own."""
        ...


class SocketApi(Api, Protocol):
    """An API that also has websockets."""

    async def socket(
        self, scope: "Scope", receive: "Receive", send: "Send", fault: SocketFault | None
    ) -> None:
        """Serve a websocket until it ends."""
        ...


@attrs.frozen(kw_only=True)
class Application:
    """Dispatches by path: the emulator's own routes, the ComfyUI servers, the Server API."""

    clock: EmulatorClock
    faults: FaultQueue
    request_log: RequestLog
    admin: Api
    comfyui: SocketApi
    control: Api
    website: Website
    skew_s: float = 0.0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """The ASGI entry point."""
        # A request is cancelled only when the server ends. Its connection is closed by then, so no
        # client is left to answer.
        with contextlib.suppress(asyncio.CancelledError):
            if scope["type"] == "http":
                await self._http(Request(scope, receive), send)
            elif scope["type"] == "websocket":
                await self._websocket(scope, receive, send)

    async def _http(self, request: Request, send: "Send") -> None:
        path: str = request.scope["path"]
        if path.startswith("/_emulator"):
            response = await self.admin.handle(request)
            await response(request.scope, request.receive, self._with_server_headers(send, None))
            return
        record = self.request_log.add_request(request.method, path, self.clock.now())
        api: Api = self.comfyui if path.startswith("/comfyui/") else self.control
        if self.website.knows(request):
            api = self.website
        fault = self.faults.take_http(request.method, path)
        handle = _catching_errors(api.handle)
        await respond(fault, self.clock, handle, request, self._with_server_headers(send, record))

    async def _websocket(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        path: str = scope["path"]
        record = self.request_log.add_request("GET", path, self.clock.now())
        send_with_headers = self._with_server_headers(send, record)
        if not path.startswith("/comfyui/"):
            await receive()
            await refuse_handshake(send_with_headers, 403)
            return
        await self.comfyui.socket(scope, receive, send_with_headers, self.faults.take_socket(path))

    def _with_server_headers(self, send: "Send", record: RequestRecord | None) -> "Send":
        async def wrapped(message: "Message") -> None:
            kind = message["type"]
            if kind.endswith("response.start") or kind == "websocket.accept":
                if record is not None:
                    record.status = message.get("status", 101)
                date = formatdate(self.clock.now() + self.skew_s, usegmt=True).encode()
                headers = [*message.get("headers", []), (b"date", date), (b"server", _SERVER)]
                message = {**message, "headers": headers}
            await send(message)

        return wrapped


def _catching_errors(
    handle: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def wrapped(request: Request) -> Response:
        try:
            return await handle(request)
        except Exception:
            _LOGGER.debug("%s %s failed", request.method, request.scope["path"], exc_info=True)
            return server_error_reply()

    return wrapped
