"""Answering an HTTP request, well or as a scripted fault has it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from comfyloom.emulator.clock import Clock
from comfyloom.emulator.faults import HttpFault

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Handle = Callable[[Request], Awaitable[Response]]


def transport_of(scope: "Scope") -> asyncio.Transport:
    """The connection under a request or websocket."""
    transport = scope["state"]["transport"]
    assert isinstance(transport, asyncio.Transport)
    return transport


async def answer(
    fault: HttpFault | None, clock: Clock, handle: Handle, request: Request, send: "Send"
) -> None:
    """Handle a request and send the response, or do what the fault says instead."""
    match fault.action if fault else None:
        case "drop":
            await hang_up(request, abort=True)
        case "hang":
            await _gone(request.receive)
        case "lose_answer":
            await handle(request)
            await hang_up(request, abort=True)
        case "answer":
            assert fault is not None
            response = Response(fault.body, fault.status, dict(fault.headers))
            await response(request.scope, request.receive, send)
        case "delay":
            assert fault is not None
            await clock.sleep_until(clock.now() + fault.seconds)
            await (await handle(request))(request.scope, request.receive, send)
        case "answer_late":
            assert fault is not None
            response = await handle(request)
            await clock.sleep_until(clock.now() + fault.seconds)
            await response(request.scope, request.receive, send)
        case "cut":
            assert fault is not None
            await _cut(await handle(request), fault.size, request, send)
        case None:
            await (await handle(request))(request.scope, request.receive, send)


async def _cut(response: Response, size: int, request: Request, send: "Send") -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    body = bytes(response.body)[:size]
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await hang_up(request, abort=False)


async def hang_up(request: Request, *, abort: bool) -> None:
    """Break the connection off, at once or after what is still to be sent."""
    transport = transport_of(request.scope)
    if abort:
        transport.abort()
    else:
        transport.close()
    await _gone(request.receive)


async def _gone(receive: "Receive") -> None:
    # Returning earlier would make the server answer in our place.
    while (await receive())["type"] != "http.disconnect":
        pass
