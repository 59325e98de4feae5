"""A running ComfyUI server: its state and the tasks that work on it."""

import asyncio
import logging
from collections.abc import Callable

import attrs

from comfyloom_emulator.comfyui.executor import Executor
from comfyloom_emulator.comfyui.run_errors import MachineDied, ServerRestarted
from comfyloom_emulator.comfyui.state import ServerState

_LOGGER = logging.getLogger("comfyloom.emulator")


@attrs.define
class ComfyUIServer:
    """Starts, restarts and kills one server.

    Attributes:
        on_death: Called with the server id when a scripted fault kills the machine.
        is_dead: Whether the server was killed.
    """

    state: ServerState
    on_death: Callable[[str], None]
    is_dead: bool = attrs.field(default=False, init=False)
    _tasks: list[asyncio.Task[None]] = attrs.field(factory=list["asyncio.Task[None]"], init=False)

    def start(self) -> None:
        """Start to run prompts and to send events."""
        self._tasks = [
            asyncio.create_task(self._work()),
            asyncio.create_task(self.state.hub.deliver()),
        ]

    def kill(self) -> None:
        """End abruptly: runs and sockets are aborted."""
        self.is_dead = True
        self.state.mark_lost()
        self.state.hub.abort()
        for task in self._tasks:
            task.cancel()

    async def finish(self) -> None:
        """Wait until the tasks of a killed server have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            try:
                await Executor(self.state).work()
            except MachineDied:
                self.kill()
                self.on_death(self.state.server_id)
                return
            except ServerRestarted:
                self.state.hub.abort()
                self.state.reset()
            except Exception:
                # As on the real server, a worker that fails on a prompt never runs another one.
                _LOGGER.exception("the worker of %s has died", self.state.server_id)
                return
            else:
                return
