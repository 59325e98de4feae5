"""The prompt queue of a server."""

import asyncio
import heapq
from typing import Any, TypeAlias

import attrs

Graph: TypeAlias = dict[str, Any]
QueueItem: TypeAlias = tuple[float, str, Graph, Any, list[str]]
"""number, prompt_id, graph, extra_data, outputs_to_execute: the form in /queue and /history."""


@attrs.define
class PromptQueue:
    """The running prompt and the pending ones, a heap that /queue shows in heap order.

    Items are compared as tuples: if two have the same number and id, `put` raises a `TypeError`
    after it has queued the second. The server answers 500 and still runs it, like the real one.
    """

    pending: list[QueueItem] = attrs.field(factory=list[QueueItem])
    running: QueueItem | None = None
    counter: int = 0
    _arrival: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def remaining(self) -> int:
        """The number of prompts that are pending or running."""
        return len(self.pending) + (self.running is not None)

    def number(self, data: Any) -> float:
        """Return the number for a posted prompt; a refused prompt uses up its number, too."""
        if "number" in data:
            return float(data["number"])
        number = self.counter
        self.counter += 1
        # Test membership first: the body may be a list.
        front = "front" in data and bool(data["front"])
        return -number if front else number

    def put(self, item: QueueItem) -> None:
        """Add a pending prompt."""
        heapq.heappush(self.pending, item)
        self._arrival.set()

    async def take(self) -> QueueItem:
        """Wait for a pending prompt, make it the running one and return it."""
        while not self.pending:
            self._arrival.clear()
            await self._arrival.wait()
        self.running = heapq.heappop(self.pending)
        return self.running

    def remove(self, prompt_ids: list[str]) -> list[str]:
        """Remove pending prompts and return the ids of those that were pending."""
        removed: list[str] = []
        for prompt_id in prompt_ids:
            for index, item in enumerate(self.pending):
                if item[1] == prompt_id:
                    del self.pending[index]
                    heapq.heapify(self.pending)
                    removed.append(prompt_id)
                    break
        return removed

    def clear(self) -> list[str]:
        """Remove all pending prompts and return their ids."""
        removed = [item[1] for item in self.pending]
        self.pending.clear()
        return removed
