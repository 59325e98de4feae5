"""The websocket endpoint of a server."""

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import attrs
from starlette.datastructures import Headers

from comfyloom_emulator.comfyui.hub import SERVER_FEATURES, Connection
from comfyloom_emulator.comfyui.origin_check import is_cross_origin
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.faults import SocketFault
from comfyloom_emulator.json_access import as_object
from comfyloom_emulator.server.fault_injection import transport_of
from comfyloom_emulator.server.replies import refuse_handshake

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send


@attrs.define(kw_only=True)
class SocketSession:
    """One websocket connection, from the handshake to its end."""

    state: ServerState
    scope: "Scope"
    receive: "Receive"
    send: "Send"
    fault: SocketFault | None

    async def serve(self) -> None:
        """Serve the connection until it ends."""
        await self.receive()
        if is_cross_origin(Headers(scope=self.scope)):
            await refuse_handshake(self.send, 403)
            return
        if self.fault is not None and self.fault.action == "refuse":
            await refuse_handshake(self.send, 503)
            return
        await self.send({"type": "websocket.accept", "headers": []})
        sid = self._sid()
        connection = Connection(transport_of(self.scope), self.send, self.fault)
        hub = self.state.hub
        hub.join(sid, connection)
        try:
            await self._greet(sid, connection)
            await self._listen(sid, connection)
        finally:
            hub.leave(sid, connection)

    def _sid(self) -> str:
        query = parse_qs(self.scope["query_string"].decode())
        return query.get("clientId", [""])[0] or uuid.uuid4().hex

    async def _greet(self, sid: str, connection: Connection) -> None:
        info = {"exec_info": {"queue_remaining": self.state.queue.remaining}}
        await _send_event(connection, "status", {"status": info, "sid": sid})
        hub = self.state.hub
        if hub.owner == sid and hub.last_node is not None:
            await _send_event(connection, "executing", {"node": hub.last_node})

    async def _listen(self, sid: str, connection: Connection) -> None:
        is_first = True
        while (message := await self.receive())["type"] == "websocket.receive":
            if is_first:
                await self._read_features(sid, connection, message)
            is_first = False

    async def _read_features(self, sid: str, connection: Connection, message: "Message") -> None:
        flags = _feature_flags(message.get("text"))
        if flags is not None:
            connection.features = flags
            self.state.hub.publish("feature_flags", SERVER_FEATURES, sid)


async def _send_event(connection: Connection, event: str, data: dict[str, Any]) -> None:
    await connection.send(json.dumps({"type": event, "data": data}))


def _feature_flags(text: str | None) -> dict[str, Any] | None:
    try:
        frame = as_object(json.loads(text or ""))
    except ValueError:
        return None
    if frame is None or frame.get("type") != "feature_flags":
        return None
    return as_object(frame.get("data")) or {}
