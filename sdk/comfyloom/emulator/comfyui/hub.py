"""The websockets of a server and the one queue through which all events reach them."""

import asyncio
import contextlib
import json
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from comfyloom.emulator.faults import SocketFault

if TYPE_CHECKING:
    from starlette.types import Send

_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_JPEG = 1
SERVER_FEATURES = {"supports_preview_metadata": True, "max_upload_size": 100 * 1024 * 1024}


Letter: TypeAlias = tuple[str | None, str | bytes]
"""A frame and the id of the client that it is for; None: all of them."""


@attrs.define(eq=False)
class Connection:
    """One websocket.

    Attributes:
        features: The flags its client sent in its very first frame.
        fault: How it is going to fail, if it is.
    """

    transport: asyncio.Transport
    _send: "Send"
    fault: SocketFault | None = None
    features: dict[str, Any] = attrs.field(factory=dict[str, Any])
    sent: int = 0

    async def send(self, frame: str | bytes) -> None:
        """Send a frame, waiting for a client that does not read."""
        if self.strike():
            return
        self.sent += 1
        key = "text" if isinstance(frame, str) else "bytes"
        # Whatever the server raises when a client has gone: it misses its frames, no more.
        with contextlib.suppress(Exception):
            await self._send({"type": "websocket.send", key: frame})
        self.strike()

    def strike(self) -> bool:
        """Whether the connection's time has come to fail; it is broken off if it shall be."""
        if self.fault is None or self.sent < self.fault.frames:
            return False
        if self.fault.action == "drop":
            self.transport.close()
        return True


@attrs.define
class Hub:
    """Sends events to whom they are for.

    Attributes:
        owner: The client id of the prompt that runs or ran last; None if it had none.
        last_node: The node that is running.
    """

    owner: str | None = None
    last_node: str | None = None
    _by_id: dict[str, Connection] = attrs.field(factory=dict[str, Connection])
    _all: set[Connection] = attrs.field(factory=set[Connection])
    _queue: "asyncio.Queue[Letter]" = attrs.field(factory=lambda: asyncio.Queue[Letter]())

    def join(self, sid: str, connection: Connection) -> None:
        """Add a connection; one with the same id gets nothing any more, but stays open."""
        self._all.add(connection)
        self._by_id[sid] = connection

    def leave(self, sid: str, connection: Connection) -> None:
        """Remove a connection, and with it whichever one has its id now."""
        self._all.discard(connection)
        self._by_id.pop(sid, None)

    def publish(self, event: str, data: Any, sid: str | None) -> None:
        """Send an event to one client, or to all of them if `sid` is None."""
        if self._by_id:
            self._queue.put_nowait((sid, json.dumps({"type": event, "data": data})))

    def publish_preview(self, jpeg: bytes, metadata: dict[str, Any]) -> None:
        """Send a preview to the owner in the form it can read; to all, in the old form."""
        if self.wants_metadata:
            described = json.dumps({**metadata, "image_type": "image/jpeg"}).encode()
            head = struct.pack(">II", _PREVIEW_WITH_METADATA, len(described)) + described
        else:
            head = struct.pack(">II", _PREVIEW, _JPEG)
        self._queue.put_nowait((self.owner, head + jpeg))

    @property
    def wants_metadata(self) -> bool:
        """Whether the owner's connection has asked for previews with metadata."""
        connection = self._by_id.get(self.owner or "")
        return bool(connection and connection.features.get("supports_preview_metadata"))

    @property
    def has_audience(self) -> bool:
        """Whether the running prompt's progress reaches anybody."""
        return self.owner in self._by_id if self.owner is not None else bool(self._by_id)

    async def deliver(self) -> None:
        """Send what is published, one frame after the other, until cancelled."""
        while True:
            sid, frame = await self._queue.get()
            if sid is None:
                for connection in [*self._by_id.values()]:
                    await connection.send(frame)
            elif sid in self._by_id:
                await self._by_id[sid].send(frame)

    def abort(self) -> None:
        """Break all connections off."""
        for connection in self._all:
            connection.transport.abort()
