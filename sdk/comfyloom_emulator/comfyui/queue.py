"""The prompt queue of a server."""

import asyncio
import heapq
from typing import Any, TypeAlias

import attrs

Graph: TypeAlias = dict[str, Any]
Item: TypeAlias = tuple[float, str, Graph, Any, list[str]]
"""number, prompt_id, graph, extra_data, outputs_to_execute: as /queue and /history show it."""


@attrs.define
class PromptQueue:
    """Pending prompts, a heap that is shown as it is, and the running one.

    Items are compared whole, so two with the same number and id raise a `TypeError` on `put`,
    with the second already queued: the server answers 500 and runs it nevertheless.
    """

    pending: list[Item] = attrs.field(factory=list[Item])
    running: Item | None = None
    counter: int = 0
    _arrival: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def remaining(self) -> int:
        """How many prompts are pending or running."""
        return len(self.pending) + (self.running is not None)

    def number(self, data: Any) -> float:
        """The number of a posted prompt; each number is used once, also by a refused prompt."""
        if "number" in data:
            return float(data["number"])
        number = self.counter
        self.counter += 1
        # Membership first: the body may be a list.
        front = "front" in data and bool(data["front"])
        return -number if front else number

    def put(self, item: Item) -> None:
        """Add a prompt."""
        heapq.heappush(self.pending, item)
        self._arrival.set()

    async def take(self) -> Item:
        """The next prompt, once there is one; it is the running one from now on."""
        while not self.pending:
            self._arrival.clear()
            await self._arrival.wait()
        self.running = heapq.heappop(self.pending)
        return self.running

    def remove(self, prompt_ids: list[str]) -> list[str]:
        """Remove pending prompts; gives the ids of those that were there."""
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
        """Remove all pending prompts; gives their ids."""
        removed = [item[1] for item in self.pending]
        self.pending.clear()
        return removed
