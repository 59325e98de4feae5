"""The ComfyUI servers of all machines, by server id, and the plain one without a machine."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.comfyui.api import ComfyUIApi
from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.schemas import merged_schemas
from comfyloom_emulator.comfyui.server import ComfyUIServer
from comfyloom_emulator.comfyui.socket import SocketSession
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.faults import SocketFault
from comfyloom_emulator.nodes.registry import NodeRegistry
from comfyloom_emulator.options import Options
from comfyloom_emulator.request_log import RequestLog
from comfyloom_emulator.server.replies import refuse_handshake

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LOCAL = "local"
_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


@attrs.define(kw_only=True)
class ServerRegistry:
    """Creates each server at its first request, and routes requests to the servers.

    Attributes:
        root: Directory for the files of the servers.
        ready_since: Returns when (epoch seconds) a machine became ready; None if it is not ready
            now.
        on_death: Called with the id of a machine that a fault kills.
    """

    options: Options
    clock: EmulatorClock
    faults: FaultQueue
    request_log: RequestLog
    root: Path
    ready_since: Callable[[str], float | None]
    on_death: Callable[[str], None]
    _servers: dict[str, ComfyUIServer] = attrs.field(factory=dict[str, ComfyUIServer], init=False)
    _killed: list[ComfyUIServer] = attrs.field(factory=list[ComfyUIServer], init=False)
    _count: int = attrs.field(default=0, init=False)

    async def handle(self, request: Request) -> Response:
        """Return the response to a request below `/comfyui/{server_id}`."""
        server_id, path = _split_path(request.scope["path"])
        server = self._find(server_id)
        if server is None:
            return Response(_BAD_GATEWAY, 502, {"Content-Type": "text/html"})
        return await ComfyUIApi(server.state).handle(request, path)

    async def socket(
        self, scope: "Scope", receive: "Receive", send: "Send", fault: SocketFault | None
    ) -> None:
        """Serve a websocket below `/comfyui/{server_id}`."""
        server_id, path = _split_path(scope["path"])
        server = self._find(server_id)
        if server is None:
            await receive()
            await refuse_handshake(send, 502, _BAD_GATEWAY)
        elif path not in {"/ws", "/api/ws"}:
            await receive()
            await refuse_handshake(send, 404)
        else:
            session = SocketSession(
                state=server.state, scope=scope, receive=receive, send=send, fault=fault
            )
            await session.serve()

    def kill(self, server_id: str) -> None:
        """Kill the server of a machine that has ended."""
        server = self._servers.pop(server_id, None)
        if server is not None:
            server.kill()
            self._killed.append(server)

    def clear(self) -> None:
        """Kill all servers."""
        for server_id in [*self._servers]:
            self.kill(server_id)

    async def finish(self) -> None:
        """Wait until the tasks of all killed servers have ended."""
        await asyncio.gather(*(server.finish() for server in self._killed))

    def _find(self, server_id: str) -> ComfyUIServer | None:
        if server_id != LOCAL:
            ready_at = self.ready_since(server_id)
            if ready_at is None:
                return None
            answers_at = ready_at + self.options.comfyui_delay_s
            if self.clock.now() < answers_at:
                self.clock.skip_to(answers_at)
                return None
        if server_id not in self._servers:
            self._servers[server_id] = self._create(server_id)
        server = self._servers[server_id]
        return None if server.is_dead else server

    def _create(self, server_id: str) -> ComfyUIServer:
        self._count += 1
        folders = Folders(self.root / f"comfyui-{self._count}")
        folders.create()
        example = files("comfyloom_emulator").joinpath("example.png").read_bytes()
        (self.root / f"comfyui-{self._count}" / "input" / "example.png").write_bytes(example)
        schemas = merged_schemas(self.options.object_info)
        state = ServerState(
            server_id=server_id,
            options=self.options,
            clock=self.clock,
            faults=self.faults,
            request_log=self.request_log,
            folders=folders,
            schemas=schemas,
            nodes=NodeRegistry(schemas, self.options.nodes),
        )
        server = ComfyUIServer(state, self.on_death)
        server.start()
        return server


def _split_path(path: str) -> tuple[str, str]:
    server_id, slash, rest = path.removeprefix("/comfyui/").partition("/")
    return server_id, slash + rest or "/"
