"""A running ComfyUI server: its state and the tasks that work on it."""

import asyncio
import logging
from collections.abc import Callable

import attrs

from comfyloom_emulator.comfyui.executor import Executor
from comfyloom_emulator.comfyui.failures import DeadServer, RestartedServer
from comfyloom_emulator.comfyui.state import ServerState

_LOGGER = logging.getLogger("comfyloom.emulator")


@attrs.define
class ComfyUiServer:
    """Starts, restarts and kills one server.

    Attributes:
        on_death: Called when a scripted fault kills the machine under a run.
    """

    state: ServerState
    on_death: Callable[[str], None]
    dead: bool = attrs.field(default=False, init=False)
    _tasks: list[asyncio.Task[None]] = attrs.field(factory=list["asyncio.Task[None]"], init=False)

    def start(self) -> None:
        """Begin to run prompts and to send events."""
        self._tasks = [
            asyncio.create_task(self._work()),
            asyncio.create_task(self.state.hub.deliver()),
        ]

    def kill(self) -> None:
        """End abruptly: runs die, sockets break off."""
        self.dead = True
        self.state.mark_lost()
        self.state.hub.abort()
        for task in self._tasks:
            task.cancel()

    async def finish(self) -> None:
        """Wait until nothing is left of a killed server."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            try:
                await Executor(self.state).work()
            except DeadServer:
                self.kill()
                self.on_death(self.state.server_id)
                return
            except RestartedServer:
                self.state.hub.abort()
                self.state.forget()
            except Exception:
                # Like the real one, a worker that fails over a prompt never runs another.
                _LOGGER.exception("the worker of %s has died", self.state.server_id)
                return
            else:
                return
