"""Responses in the form that both emulated servers give them."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Send

TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"


def json_reply(
    data: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON as Python writes it, NaN and all."""
    return Response(
        json.dumps(data).encode(),
        status,
        headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})},
    )


def text_reply(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Plain text."""
    return Response(
        text.encode(),
        status,
        headers={"Content-Type": "text/plain; charset=utf-8", **(headers or {})},
    )


def empty_reply(status: int = 200) -> Response:
    """No body and no content type."""
    return Response(status_code=status)


async def refuse_handshake(send: "Send", status: int, body: bytes = b"") -> None:
    """Answer a websocket handshake with an HTTP status instead."""
    await send({"type": "websocket.http.response.start", "status": status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": body})


def trouble_reply() -> Response:
    """What an unhandled exception becomes."""
    return text_reply(TROUBLE, 500, {"Connection": "close"})
