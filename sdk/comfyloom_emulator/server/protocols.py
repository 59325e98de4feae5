"""uvicorn's protocols, with the connection itself within reach of the application.

Faults need it: an ASGI application cannot break a connection off.
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
# Below a warning uvicorn logs the URL of every websocket, and a machine's URL is its only secret.
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
        # Not through uvicorn's loggers: the host process may run a uvicorn of its own.
        self.logger = _LOGGER
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport."""
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class SocketProtocol(WebSocketsSansIOProtocol):
    """Websockets that log where the HTTP side does; the transport comes with the upgrade."""

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
        """Send, and know that a handshake answered over HTTP is complete, too."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

    def data_received(self, data: bytes) -> None:
        """Take what comes in, or drop it after a frame that was refused."""
        if not self._refused:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Tell the client why its frame is refused, and let it finish sending.

        Closing at once would reset the connection under the rest of a frame that is too big, and
        the client would never read the reason.
        """
        self._refused = True
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(_REFUSAL_S, self.transport.close)
