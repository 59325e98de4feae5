"""The websockets of a server and the one queue through which all events reach them."""

import asyncio
import contextlib
import json
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from comfyloom_emulator.comfyui.malformed_frames import GARBAGE, UNKNOWN, flood
from comfyloom_emulator.faults import SocketFault

if TYPE_CHECKING:
    from starlette.types import Send

_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_JPEG = 1
_HOLD_S = 0.05
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
    _held: list[str | bytes] = attrs.field(factory=list[str | bytes])
    _timer: asyncio.TimerHandle | None = None
    _late: "asyncio.Future[None] | None" = None

    async def send(self, frame: str | bytes) -> None:
        """Send a frame, waiting for a client that does not read."""
        if self.strike():
            return
        self.sent += 1
        for each in self._spoilt(frame):
            await self._send_safely(each)
        self.strike()

    def strike(self) -> bool:
        """Whether the connection's time has come to fail; it is broken off if it shall be."""
        if self.fault is None or self.sent < self.fault.frames:
            return False
        match self.fault.action:
            case "drop":
                self.transport.close()
            case "half_open":
                self.transport.pause_reading()  # pings are never answered
            case "silence":
                pass
            case _:
                return False
        return True

    def _spoilt(self, frame: str | bytes) -> list[str | bytes]:
        """The frames that are sent in place of one."""
        if self.fault is None or self.sent <= self.fault.frames:
            return [frame]
        match self.fault.action:
            case "garbage":
                return [*GARBAGE, frame]
            case "unknown":
                return [*UNKNOWN, frame]
            case "flood":
                self.fault = None
                return [*flood(), frame]
            case "duplicate":
                return [frame, frame]
            case "disorder":
                return self._exchanged(frame)
            case _:
                return [frame]

    def _exchanged(self, frame: str | bytes) -> list[str | bytes]:
        """Nothing, and then the next frame before this one; the last is sent after a moment."""
        if self._timer is not None:
            self._timer.cancel()
        if self._held:
            held, self._held = self._held, []
            return [frame, *held]
        self._held = [frame]
        self._timer = asyncio.get_running_loop().call_later(_HOLD_S, self._release)
        return []

    def _release(self) -> None:
        held, self._held = self._held, []
        for frame in held:
            self._late = asyncio.ensure_future(self._send_safely(frame))

    async def _send_safely(self, frame: str | bytes) -> None:
        key = "text" if isinstance(frame, str) else "bytes"
        # Whatever the server raises when a client has gone: it misses its frames, no more.
        with contextlib.suppress(Exception):
            await self._send({"type": "websocket.send", key: frame})


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
