"""The ASGI application: sends each request to the API it is for, and keeps the journal."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.faults import SocketFault
from comfyloom_emulator.journal import Journal, RequestRecord
from comfyloom_emulator.server.fault_injection import answer
from comfyloom_emulator.server.replies import refuse_handshake, trouble_reply

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

_LOGGER = logging.getLogger("comfyloom.emulator")
_SERVER = b"Python/3.11 aiohttp/3.14.5"


class Api(Protocol):
    """Something that answers the requests under one path prefix."""

    async def handle(self, request: Request) -> Response:
        """The response to a request."""
        ...


class SocketApi(Api, Protocol):
    """An API that has websockets, too."""

    async def socket(
        self, scope: "Scope", receive: "Receive", send: "Send", fault: SocketFault | None
    ) -> None:
        """Serve a websocket until it ends."""
        ...


@attrs.frozen(kw_only=True)
class Application:
    """Dispatches by path: the emulator's own routes, the ComfyUI servers, the Server API."""

    clock: Clock
    faults: FaultBook
    journal: Journal
    own: Api
    comfyui: SocketApi
    control: Api
    skew_s: float = 0.0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """The ASGI entry point."""
        # Only the end of the server cancels a request. Its connection is gone by then, and there
        # is nobody left who could be told.
        with contextlib.suppress(asyncio.CancelledError):
            if scope["type"] == "http":
                await self._http(Request(scope, receive), send)
            elif scope["type"] == "websocket":
                await self._websocket(scope, receive, send)

    async def _http(self, request: Request, send: "Send") -> None:
        path: str = request.scope["path"]
        if path.startswith("/_emulator"):
            response = await self.own.handle(request)
            await response(request.scope, request.receive, self._dated(send, None))
            return
        record = self.journal.request(request.method, path, self.clock.now())
        api: Api = self.comfyui if path.startswith("/comfyui/") else self.control
        fault = self.faults.take_http(request.method, path)
        handle = _troubled(api.handle)
        await answer(fault, self.clock, handle, request, self._dated(send, record))

    async def _websocket(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        path: str = scope["path"]
        record = self.journal.request("GET", path, self.clock.now())
        dated = self._dated(send, record)
        if not path.startswith("/comfyui/"):
            await receive()
            await refuse_handshake(dated, 403)
            return
        await self.comfyui.socket(scope, receive, dated, self.faults.take_socket(path))

    def _dated(self, send: "Send", record: RequestRecord | None) -> "Send":
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


def _troubled(
    handle: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await handle(request)
        except Exception:
            _LOGGER.debug("%s %s failed", request.method, request.scope["path"], exc_info=True)
            return trouble_reply()

    return guarded
