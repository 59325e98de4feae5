"""uvicorn's protocols, which give the application access to the connection.

Faults need it: an ASGI application alone cannot close a connection.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

_REFUSAL_S = 1.0
_LOGGER = logging.getLogger("comfyloom_emulator.wire")
# Below WARNING uvicorn logs the URL of every websocket, and a machine's URL is its only secret.
_LOGGER.setLevel(logging.WARNING)


class HttpProtocol(H11Protocol):
    """HTTP/1.1 whose requests carry their transport in `scope["state"]`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Not uvicorn's own loggers: the host process may run uvicorn, too.
        self.logger = _LOGGER
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Store the transport for the application."""
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class SocketProtocol(WebSocketsSansIOProtocol):
    """Websockets that use the logger of `HttpProtocol`; they inherit its transport."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _LOGGER
        self._refused = False

    async def send(self, message: "ASGISendEvent") -> None:
        """Send a message; a handshake answered over HTTP also counts as complete."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

    def data_received(self, data: bytes) -> None:
        """Process incoming data; drop it after a refused frame."""
        if not self._refused:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Send the client the reason why its frame is refused, and let it finish sending.

        Closing at once would reset the connection while the client still sends a frame that is
        too large, and the client would never read the reason.
        """
        self._refused = True
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(_REFUSAL_S, self.transport.close)
