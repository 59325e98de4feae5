"""The websockets of a server, and the single queue through which all events reach them."""

import asyncio
import contextlib
import json
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from comfyloom_emulator.comfyui.malformed_frames import (
    MALFORMED_FRAMES,
    UNKNOWN_FRAMES,
    oversized_frames,
)
from comfyloom_emulator.faults import SocketFault

if TYPE_CHECKING:
    from starlette.types import Send

_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_JPEG = 1
_PNG = 2
_HOLD_S = 0.05
SERVER_FEATURES = {"supports_preview_metadata": True, "max_upload_size": 100 * 1024 * 1024}


AddressedFrame: TypeAlias = tuple[str | None, str | bytes]
"""The client id that a frame is for (None: all clients), and the frame."""


@attrs.define(eq=False)
class Connection:
    """One websocket.

    Attributes:
        fault: The fault that strikes this connection, if any.
        features: The feature flags that its client sent in its very first frame.
        sent: Number of frames sent.
    """

    transport: asyncio.Transport
    _send: "Send"
    fault: SocketFault | None = None
    features: dict[str, Any] = attrs.field(factory=dict[str, Any])
    sent: int = 0
    _held: list[str | bytes] = attrs.field(factory=list[str | bytes])
    _timer: asyncio.TimerHandle | None = None
    _late_send: "asyncio.Future[None] | None" = None

    async def send(self, frame: str | bytes) -> None:
        """Send a frame; waits for as long as the client does not read."""
        if self._apply_fault():
            return
        self.sent += 1
        for each in self._faulty_frames(frame):
            await self._send_safely(each)
        self._apply_fault()

    def _apply_fault(self) -> bool:
        """Apply the fault if it is due, and return whether the connection is now useless."""
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

    def _faulty_frames(self, frame: str | bytes) -> list[str | bytes]:
        """Return the frames to send in place of one."""
        if self.fault is None or self.sent <= self.fault.frames:
            return [frame]
        match self.fault.action:
            case "garbage":
                return [*MALFORMED_FRAMES, frame]
            case "unknown":
                return [*UNKNOWN_FRAMES, frame]
            case "flood":
                self.fault = None
                return [*oversized_frames(), frame]
            case "duplicate":
                return [frame, frame]
            case "disorder":
                return self._swapped(frame)
            case _:
                return [frame]

    def _swapped(self, frame: str | bytes) -> list[str | bytes]:
        """Hold a frame back until the next one was sent, for at most `_HOLD_S`."""
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
            self._late_send = asyncio.ensure_future(self._send_safely(frame))

    async def _send_safely(self, frame: str | bytes) -> None:
        key = "text" if isinstance(frame, str) else "bytes"
        # uvicorn may raise anything if the client has left. It misses its frames, nothing else.
        with contextlib.suppress(Exception):
            await self._send({"type": "websocket.send", key: frame})


@attrs.define
class Hub:
    """Sends events to the clients they are for.

    Attributes:
        owner: Client id of the prompt that runs or ran last; None if it had none.
        last_node: Id of the running node.
    """

    owner: str | None = None
    last_node: str | None = None
    _by_id: dict[str, Connection] = attrs.field(factory=dict[str, Connection])
    _all: set[Connection] = attrs.field(factory=set[Connection])
    _queue: "asyncio.Queue[AddressedFrame]" = attrs.field(
        factory=lambda: asyncio.Queue[AddressedFrame]()
    )

    def join(self, sid: str, connection: Connection) -> None:
        """Add a connection; an earlier one with the same id stays open but gets no more events."""
        self._all.add(connection)
        self._by_id[sid] = connection

    def leave(self, sid: str, connection: Connection) -> None:
        """Remove a connection, and, like the real server, any newer one with the same id."""
        self._all.discard(connection)
        self._by_id.pop(sid, None)

    def publish(self, event: str, data: Any, sid: str | None) -> None:
        """Queue an event for one client, or for all clients if `sid` is None."""
        if self._by_id:
            self._queue.put_nowait((sid, json.dumps({"type": event, "data": data})))

    def publish_preview(self, image: bytes, metadata: dict[str, Any]) -> None:
        """Queue a JPEG or PNG for the owner in its format, or for all in the old format."""
        is_png = image.startswith(b"\x89PNG")
        if self.wants_metadata:
            kind = "image/png" if is_png else "image/jpeg"
            described = json.dumps({**metadata, "image_type": kind}).encode()
            header = struct.pack(">II", _PREVIEW_WITH_METADATA, len(described)) + described
        else:
            header = struct.pack(">II", _PREVIEW, _PNG if is_png else _JPEG)
        self._queue.put_nowait((self.owner, header + image))

    @property
    def wants_metadata(self) -> bool:
        """Whether the owner's connection asked for previews with metadata."""
        connection = self._by_id.get(self.owner or "")
        return bool(connection and connection.features.get("supports_preview_metadata"))

    @property
    def has_audience(self) -> bool:
        """Whether any connection receives the progress of the running prompt."""
        return self.owner in self._by_id if self.owner is not None else bool(self._by_id)

    async def deliver(self) -> None:
        """Send the queued frames one after the other, until cancelled."""
        while True:
            sid, frame = await self._queue.get()
            if sid is None:
                for connection in [*self._by_id.values()]:
                    await connection.send(frame)
            elif sid in self._by_id:
                await self._by_id[sid].send(frame)

    def abort(self) -> None:
        """Abort all connections."""
        for connection in self._all:
            connection.transport.abort()
