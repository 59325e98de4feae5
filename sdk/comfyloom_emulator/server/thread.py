"""A web server on the loopback interface, in a thread with its own event loop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import uvicorn

from comfyloom_emulator.server.protocols import HttpProtocol, SocketProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

T = TypeVar("T")

_KEEP_ALIVE_S = 3600
_POLL_S = 0.5
_ROUNDS = 10
_MAX_FRAME_BYTES = 4 * 1024 * 1024


def listen(port: int) -> socket.socket:
    """Return a listening socket on the loopback interface; port 0 chooses a free one.

    Raises:
        OSError: The port is taken or not allowed.
    """
    # With an explicit protocol, asyncio disables Nagle's algorithm; otherwise every small answer
    # waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its delays of 0.1 s at start and stop."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def main_loop(self) -> None:
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First only stop accepting: what was accepted last is no connection yet, and asyncio would
        # forget it, and never close its socket, if its server were closed meanwhile.
        for listener in sockets or []:
            with contextlib.suppress(NotImplementedError):  # the event loop of Windows
                asyncio.get_running_loop().remove_reader(listener)
        await _settle()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _settle() -> None:
    """Let the event loop do what it has begun."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


class ServerThread:
    """Serves one ASGI application until it is stopped.

    Args:
        app: The application.
        listener: Listening socket; the thread takes it over and closes it.
        on_start: Called in the event loop before the first request.
        on_stop: Awaited in the event loop after the last request.
    """

    def __init__(
        self,
        app: "ASGIApp",
        listener: socket.socket,
        on_start: Callable[[asyncio.AbstractEventLoop], None],
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        self._app = app
        self._listener = listener
        self._on_start = on_start
        self._on_stop = on_stop
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="comfyloom-emulator", daemon=True)

    def start(self) -> None:
        """Start the server; returns when requests are accepted.

        Raises:
            RuntimeError: The server could not start.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise RuntimeError("the emulator's server did not start") from self._failure

    def stop(self) -> None:
        """Close all connections and end the thread."""
        if self._loop is not None and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.stopping.set)
        self._thread.join()

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the event loop's thread and return its result."""
        if self._loop is None or threading.current_thread() is self._thread:
            return function()

        async def run() -> T:
            return function()

        answer = asyncio.run_coroutine_threadsafe(run(), self._loop)
        while self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                return answer.result(_POLL_S)
        # The loop ended before it ran the function.
        return function()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except Exception as error:  # noqa: BLE001 - passed to the thread that called start()
            self._failure = error
        finally:
            self._loop = None
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = _Server(_config(self._app), self._started.set)
        self._on_start(self._loop)
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            await self._on_stop()


def _config(app: "ASGIApp") -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws=SocketProtocol,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        ws_max_size=_MAX_FRAME_BYTES,
        ws_ping_interval=None,
    )
