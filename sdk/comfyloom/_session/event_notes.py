"""What only the events of a run say: history keeps neither streamed images nor blocked nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from comfyloom._comfyui.events import ServerEvent
from comfyloom._comfyui.run_watcher import RunListener
from comfyloom._core.json import text
from comfyloom._workflow.graph import Graph

STREAMING: Final = "SaveImageWebsocket"
"""The node type that sends its images over the event socket, and saves none."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_BLOCKED: Final = "ExecutionBlocked"
_PREFIX: Final = "Execution Blocked: "


@attrs.define(eq=False)
class EventNotes:
    """What the events of a run said, and its history lacks.

    Attributes:
        streaming: The nodes that send their images over the event socket.
        images: The PNG images that each of them has sent.
        blocked: The messages of nodes that an ExecutionBlocker stopped, by node.
    """

    streaming: frozenset[str] = frozenset()
    images: dict[str, list[bytes]] = attrs.field(factory=dict[str, list[bytes]], repr=False)
    blocked: dict[str, str] = attrs.field(factory=dict[str, str])

    def begin(self, graph: Graph) -> None:
        """Note a graph that is about to run."""
        nodes = [node for node, entry in graph.items() if entry.get("class_type") == STREAMING]
        self.streaming |= frozenset(nodes)
        # A second run of the same nodes streams the same images again.
        self.images.update({node: [] for node in nodes})

    def explanation(self, node: str) -> str:
        """Return why a node may have given no result, "" if the events do not say."""
        if node in self.streaming:
            return "it sends its images over the event socket, and none arrived"
        return "; ".join(
            f"node {blocker} was blocked: {message}" for blocker, message in self.blocked.items()
        )


@attrs.define(eq=False)
class NotingListener:
    """Takes notes of the events of a run, and passes them on."""

    listener: RunListener
    notes: EventNotes
    _running: str | None = attrs.field(default=None, init=False)

    def on_event(self, event: ServerEvent) -> None:
        """Note what history will lack, and pass the event on."""
        if event.type == "executing":
            self._running = event.node
        elif event.type == "preview":
            node = event.node or self._running or ""
            is_image = event.blob is not None and event.blob.startswith(_PNG)
            if node in self.notes.streaming and is_image:
                self.notes.images[node].append(event.blob or b"")
                return  # a result of full size, not a preview
        elif event.type == "execution_error" and _is_blocked(event.data):
            message = text(event.data.get("exception_message")) or ""
            self.notes.blocked[event.node or ""] = message.strip().removeprefix(_PREFIX)
        self.listener.on_event(event)

    def on_queued(self, position: int) -> None:
        """Pass it on."""
        self.listener.on_queued(position)

    def on_running(self) -> None:
        """Pass it on."""
        self.listener.on_running()

    def on_silent(self, seconds: float) -> None:
        """Pass it on."""
        self.listener.on_silent(seconds)


def _is_blocked(data: Mapping[str, Any]) -> bool:
    return str(data.get("exception_type") or "").rpartition(".")[2] == _BLOCKED
