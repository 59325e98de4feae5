"""The ComfyUI servers of all machines, by server id, and the one that is no machine."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from starlette.requests import Request
from starlette.responses import Response

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.comfyui.api import ComfyUiApi
from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.schemas import merged
from comfyloom_emulator.comfyui.server import ComfyUiServer
from comfyloom_emulator.comfyui.socket import SocketSession
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.faults import SocketFault
from comfyloom_emulator.journal import Journal
from comfyloom_emulator.nodes.registry import Registry
from comfyloom_emulator.options import Options
from comfyloom_emulator.server.replies import refuse_handshake

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LOCAL = "local"
_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


@attrs.define(kw_only=True)
class Farm:
    """Creates servers when they are first asked for, and routes requests to them.

    Attributes:
        ready_since: Since when (epoch seconds) a machine has been ready; None if it is not, or
            not any more.
        on_death: Called with the id of a machine that a fault kills.
    """

    options: Options
    clock: Clock
    faults: FaultBook
    journal: Journal
    root: Path
    ready_since: Callable[[str], float | None]
    on_death: Callable[[str], None]
    _servers: dict[str, ComfyUiServer] = attrs.field(factory=dict[str, ComfyUiServer], init=False)
    _killed: list[ComfyUiServer] = attrs.field(factory=list[ComfyUiServer], init=False)
    _count: int = attrs.field(default=0, init=False)

    async def handle(self, request: Request) -> Response:
        """The response to a request below `/comfyui/{server_id}`."""
        server_id, path = _split(request.scope["path"])
        server = self._find(server_id)
        if server is None:
            return Response(_BAD_GATEWAY, 502, {"Content-Type": "text/html"})
        return await ComfyUiApi(server.state).handle(request, path)

    async def socket(
        self, scope: "Scope", receive: "Receive", send: "Send", fault: SocketFault | None
    ) -> None:
        """Serve a websocket below `/comfyui/{server_id}`."""
        server_id, path = _split(scope["path"])
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
        """End the server of a machine that has ended."""
        server = self._servers.pop(server_id, None)
        if server is not None:
            server.kill()
            self._killed.append(server)

    def clear(self) -> None:
        """End all servers."""
        for server_id in [*self._servers]:
            self.kill(server_id)

    async def finish(self) -> None:
        """Wait until nothing is left of the servers that were ended."""
        await asyncio.gather(*(server.finish() for server in self._killed))

    def _find(self, server_id: str) -> ComfyUiServer | None:
        if server_id != LOCAL:
            since = self.ready_since(server_id)
            if since is None:
                return None
            answers_at = since + self.options.comfyui_delay_s
            if self.clock.now() < answers_at:
                self.clock.settle(answers_at)
                return None
        if server_id not in self._servers:
            self._servers[server_id] = self._create(server_id)
        server = self._servers[server_id]
        return None if server.dead else server

    def _create(self, server_id: str) -> ComfyUiServer:
        self._count += 1
        folders = Folders(self.root / f"comfyui-{self._count}")
        folders.create()
        example = files("comfyloom_emulator").joinpath("example.png").read_bytes()
        (self.root / f"comfyui-{self._count}" / "input" / "example.png").write_bytes(example)
        schemas = merged(self.options.object_info)
        state = ServerState(
            server_id=server_id,
            options=self.options,
            clock=self.clock,
            faults=self.faults,
            journal=self.journal,
            folders=folders,
            schemas=schemas,
            nodes=Registry(schemas, self.options.nodes),
        )
        server = ComfyUiServer(state, self.on_death)
        server.start()
        return server


def _split(path: str) -> tuple[str, str]:
    server_id, slash, rest = path.removeprefix("/comfyui/").partition("/")
    return server_id, slash + rest or "/"
