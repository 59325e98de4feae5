"""Answers an HTTP request, normally or in the way a scripted fault demands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.faults import HttpFault

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_MAX_PIECES = 100
Handle = Callable[[Request], Awaitable[Response]]


def transport_of(scope: "Scope") -> asyncio.Transport:
    """Return the connection of a request or websocket."""
    transport = scope["state"]["transport"]
    assert isinstance(transport, asyncio.Transport)
    return transport


async def respond(
    fault: HttpFault | None, clock: EmulatorClock, handle: Handle, request: Request, send: "Send"
) -> None:
    """Handle a request and send the response, or do what the fault demands instead."""
    match fault.action if fault else None:
        case "drop":
            await close_connection(request, abort=True)
        case "hang":
            await _wait_for_disconnect(request.receive)
        case "lose_answer":
            await handle(request)
            await close_connection(request, abort=True)
        case "answer" | "misreport":
            assert fault is not None
            if fault.action == "misreport":
                await handle(request)
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
    """Send a response, altered by the fault if there is one."""
    match fault:
        case HttpFault(action="cut"):
            await _send_truncated(response, fault.size, request, send)
        case HttpFault(action="drip"):
            await _send_in_pieces(response, fault, send)
        case HttpFault(action="shorten"):
            await _shortened(response, fault.size)(request.scope, request.receive, send)
        case HttpFault(action="nan"):
            await _with_nan(response)(request.scope, request.receive, send)
        case _:
            await response(request.scope, request.receive, send)


def _shortened(response: Response, size: int) -> Response:
    short = Response(bytes(response.body)[:size], response.status_code)
    length = (b"content-length", b"%d" % len(short.body))
    kept = [each for each in response.raw_headers if each[0].lower() != length[0]]
    short.raw_headers = [*kept, length]
    return short


async def _send_in_pieces(response: Response, fault: HttpFault, send: "Send") -> None:
    """Send `fault.size` bytes of the body, then the rest in small pieces."""
    head = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "http.response.start", **head})
    body = bytes(response.body)
    step = max(1, -(-(len(body) - fault.size) // _MAX_PIECES))
    rest = [body[at : at + step] for at in range(fault.size, len(body), step)]
    for piece in [body[: fault.size], *rest]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(fault.seconds)
    await send({"type": "http.response.body", "body": b""})


def _with_nan(response: Response) -> Response:
    """Add NaN and Infinity to a JSON object: Python writes them, strict parsers refuse them."""
    body = bytes(response.body)
    if not body.startswith(b"{"):
        return response
    invalid = b'{"emulated_nan": NaN, "emulated_infinity": [Infinity, -Infinity]'
    rest = body[1:]
    joined = invalid + (b"" if rest.strip() == b"}" else b", ") + rest
    return Response(joined, response.status_code, {"Content-Type": "application/json"})


async def _send_truncated(response: Response, size: int, request: Request, send: "Send") -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    body = bytes(response.body)[:size]
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await close_connection(request, abort=False)


async def close_connection(request: Request, *, abort: bool) -> None:
    """Close the connection, at once (`abort`) or after the data still to be sent."""
    transport = transport_of(request.scope)
    if abort:
        transport.abort()
    else:
        transport.close()
    await _wait_for_disconnect(request.receive)


async def _wait_for_disconnect(receive: "Receive") -> None:
    # Returning earlier would make uvicorn send a response of its own.
    while (await receive())["type"] != "http.disconnect":
        pass
