"""Answering an HTTP request, well or as a scripted fault has it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.faults import HttpFault

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_DRIPS = 100
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
        case _:
            await _reply(fault, await handle(request), request, send)


async def _reply(
    fault: HttpFault | None, response: Response, request: Request, send: "Send"
) -> None:
    """Send a response, or what a fault makes of it."""
    match fault:
        case HttpFault(action="cut"):
            await _cut(response, fault.size, request, send)
        case HttpFault(action="drip"):
            await _drip(response, fault, send)
        case HttpFault(action="shorten"):
            await _shortened(response, fault.size)(request.scope, request.receive, send)
        case HttpFault(action="nan"):
            await _with_nan(response)(request.scope, request.receive, send)
        case _:
            await response(request.scope, request.receive, send)


def _shortened(response: Response, size: int) -> Response:
    short = Response(bytes(response.body)[:size], response.status_code)
    length = (b"content-length", b"%d" % len(short.body))
    others = [each for each in response.raw_headers if each[0].lower() != length[0]]
    short.raw_headers = [*others, length]
    return short


async def _drip(response: Response, fault: HttpFault, send: "Send") -> None:
    """Send a body in small pieces."""
    head = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "http.response.start", **head})
    body = bytes(response.body)
    step = max(1, -(-(len(body) - fault.size) // _DRIPS))
    rest = [body[at : at + step] for at in range(fault.size, len(body), step)]
    pieces = [body[: fault.size], *rest]
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(fault.seconds)
    await send({"type": "http.response.body", "body": b""})


def _with_nan(response: Response) -> Response:
    """Put into a JSON object what Python's own writer puts there, and strict readers refuse."""
    body = bytes(response.body)
    if not body.startswith(b"{"):
        return response
    odd = b'{"emulated_nan": NaN, "emulated_infinity": [Infinity, -Infinity]'
    rest = body[1:]
    joined = odd + (b"" if rest.strip() == b"}" else b", ") + rest
    return Response(joined, response.status_code, {"Content-Type": "application/json"})


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
