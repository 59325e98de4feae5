"""The state of one ComfyUI server, in memory and on disk."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.comfyui.cache import Cache
from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.comfyui.history import History
from comfyloom_emulator.comfyui.hub import Hub
from comfyloom_emulator.comfyui.queue import PromptQueue
from comfyloom_emulator.comfyui.schemas import Schema
from comfyloom_emulator.fault_queue import FaultQueue
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.options import Options
from comfyloom_emulator.request_log import PromptRecord, PromptStatus, RequestLog

_UNFINISHED: frozenset[PromptStatus] = frozenset({"pending", "running"})


@attrs.define(kw_only=True)
class ServerState:
    """The state that a server's routes, sockets and executor share.

    Attributes:
        interrupted: The interrupt flag.
        is_free_requested: Whether to drop the cache after the current run.
        secrets: The secrets of prompts by id, which newer servers keep out of the queue.
    """

    server_id: str
    options: Options
    clock: EmulatorClock
    faults: FaultQueue
    request_log: RequestLog
    folders: Folders
    schemas: Mapping[str, Schema]
    nodes: Mapping[str, Node]
    queue: PromptQueue = attrs.field(factory=PromptQueue)
    history: History = attrs.field(factory=History)
    cache: Cache = attrs.field(factory=Cache)
    hub: Hub = attrs.field(factory=Hub)
    interrupted: asyncio.Event = attrs.field(factory=asyncio.Event)
    is_free_requested: bool = False
    secrets: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]], repr=False)
    _records: list[PromptRecord] = attrs.field(factory=list[PromptRecord], init=False)

    def record_prompt(self, prompt_id: str) -> None:
        """Record an accepted prompt."""
        self._records.append(self.request_log.add_prompt(self.server_id, prompt_id))

    def set_status(self, prompt_id: str, status: PromptStatus) -> None:
        """Record the status of a prompt; if several have this id, of the oldest unfinished one."""
        for record in self._records:
            if record.prompt_id == prompt_id:
                record.status = status
                if status not in _UNFINISHED:
                    self._records.remove(record)
                return

    def mark_lost(self) -> None:
        """Record that all unfinished prompts were lost with the server."""
        for record in self._records:
            record.status = "error" if record.status == "running" else "deleted"
        self._records.clear()

    def publish_queue_size(self) -> None:
        """Send the queue length to all clients."""
        info = {"exec_info": {"queue_remaining": self.queue.remaining}}
        self.hub.publish("status", {"status": info}, None)

    def reset(self) -> None:
        """Drop everything that a restart of ComfyUI loses; files and open sockets stay."""
        self.mark_lost()
        self.queue = PromptQueue()
        self.history = History()
        self.cache = Cache()
        self.hub.owner = self.hub.last_node = None
        self.interrupted.clear()
