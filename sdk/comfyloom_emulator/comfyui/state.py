"""Everything that one ComfyUI server has in memory and on disk."""

import asyncio
from collections.abc import Mapping

import attrs

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.comfyui.cache import Cache
from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.history import History
from comfyloom_emulator.comfyui.hub import Hub
from comfyloom_emulator.comfyui.queue import PromptQueue
from comfyloom_emulator.comfyui.schemas import Schema
from comfyloom_emulator.fault_queue import FaultBook
from comfyloom_emulator.journal import Journal, PromptRecord, PromptStatus
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.options import Options

_OPEN: frozenset[PromptStatus] = frozenset({"pending", "running"})


@attrs.define(kw_only=True)
class ServerState:
    """The parts of a server that its routes, sockets and executor share.

    Attributes:
        interrupted: The interrupt flag.
        free_wanted: Whether the cache is to be dropped after the run.
    """

    server_id: str
    options: Options
    clock: Clock
    faults: FaultBook
    journal: Journal
    folders: Folders
    schemas: Mapping[str, Schema]
    nodes: Mapping[str, Node]
    queue: PromptQueue = attrs.field(factory=PromptQueue)
    history: History = attrs.field(factory=History)
    cache: Cache = attrs.field(factory=Cache)
    hub: Hub = attrs.field(factory=Hub)
    interrupted: asyncio.Event = attrs.field(factory=asyncio.Event)
    free_wanted: bool = False
    _records: list[PromptRecord] = attrs.field(factory=list[PromptRecord], init=False)

    def note_prompt(self, prompt_id: str) -> None:
        """Write an accepted prompt down."""
        self._records.append(self.journal.prompt(self.server_id, prompt_id))

    def mark(self, prompt_id: str, status: PromptStatus) -> None:
        """Note what has become of a prompt; of several with this id, the oldest open one."""
        for record in self._records:
            if record.prompt_id == prompt_id:
                record.status = status
                if status not in _OPEN:
                    self._records.remove(record)
                return

    def mark_lost(self) -> None:
        """Note that all open prompts are gone with the server."""
        for record in self._records:
            record.status = "error" if record.status == "running" else "deleted"
        self._records.clear()

    def announce_queue(self) -> None:
        """Tell everybody how long the queue is."""
        info = {"exec_info": {"queue_remaining": self.queue.remaining}}
        self.hub.publish("status", {"status": info}, None)

    def forget(self) -> None:
        """Lose all that a restart of ComfyUI loses; files and open sockets stay."""
        self.mark_lost()
        self.queue = PromptQueue()
        self.history = History()
        self.cache = Cache()
        self.hub.owner = self.hub.last_node = None
        self.interrupted.clear()
