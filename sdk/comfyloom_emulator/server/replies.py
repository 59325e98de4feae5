"""Responses in the format of the emulated servers."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Send

SERVER_ERROR = "500 Internal Server Error\n\nServer got itself in trouble"


def json_reply(
    data: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response as Python writes it, including NaN."""
    return Response(
        json.dumps(data).encode(),
        status,
        headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})},
    )


def text_reply(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a plain-text response."""
    return Response(
        text.encode(),
        status,
        headers={"Content-Type": "text/plain; charset=utf-8", **(headers or {})},
    )


def empty_reply(status: int = 200) -> Response:
    """Return a response without body and content type."""
    return Response(status_code=status)


async def refuse_handshake(send: "Send", status: int, body: bytes = b"") -> None:
    """Answer a websocket handshake with an HTTP status instead."""
    await send({"type": "websocket.http.response.start", "status": status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": body})


def server_error_reply() -> Response:
    """Return the response to an unhandled exception."""
    return text_reply(SERVER_ERROR, 500, {"Connection": "close"})
