"""What a WebSocket handshake carries: whatever a request would carry at that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    import requests

# Of the connection, not of who asks; the WebSocket library writes its own.
_OWN: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "upgrade"}
)


@attrs.frozen(repr=False)
class Handshake:
    """Everything that is needed to open the event socket.

    Attributes:
        url: A `ws://` or `wss://` URL.
        headers: The lines that are added.
        options: Further options of `websocket.WebSocket.connect`.
        tls: Its options for TLS.
    """

    url: str
    headers: list[str]
    options: dict[str, Any]
    tls: dict[str, Any]

    @classmethod
    def like(
        cls, request: requests.PreparedRequest, options: dict[str, Any], tls: dict[str, Any]
    ) -> Handshake:
        """Return the handshake that carries what a prepared request carries."""
        named = {str(name): _text(value) for name, value in request.headers.items()}
        lines = [
            f"{name}: {value}"
            for name, value in named.items()
            if name.lower() not in _OWN and not name.lower().startswith("sec-websocket")
        ]
        host = next((value for name, value in named.items() if name.lower() == "host"), None)
        url = (request.url or "").replace("http", "ws", 1)
        return cls(url, lines, {**options, "host": host}, tls)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
