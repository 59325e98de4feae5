"""The events of one run: which clients get them, and which ones the history keeps."""

from typing import Any

import attrs

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.comfyui.hub import Hub


@attrs.define
class RunEvents:
    """Sends the events of a run to its owner and, where the protocol says so, to all clients."""

    hub: Hub
    clock: EmulatorClock
    prompt_id: str
    recorded: list[tuple[str, dict[str, Any]]] = attrs.field(
        factory=list[tuple[str, dict[str, Any]]], init=False
    )
    _nodes: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]], init=False)

    def record(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Send an event that the history keeps.

        Args:
            event: Its name.
            data: Its data; prompt id and time are added.
            to_all: Whether all clients get it if the prompt has no owner.
        """
        stamped = {**data, "prompt_id": self.prompt_id, "timestamp": int(self.clock.now() * 1000)}
        self.recorded.append((event, stamped))
        if self.hub.owner is not None or to_all:
            self.hub.publish(event, stamped, self.hub.owner)

    def executing(self, node: str | None) -> None:
        """Report the node that starts; None: the run is over."""
        self.hub.last_node = node
        shown = {} if node is None else {"display_node": node}
        self._send_to_owner("executing", {"node": node, **shown, "prompt_id": self.prompt_id})

    def executed(self, node: str, output: Any) -> None:
        """Report the ui data of a node."""
        data = {"node": node, "display_node": node, "output": output, "prompt_id": self.prompt_id}
        self._send_to_owner("executed", data)

    def started(self, node: str) -> None:
        """Report that a node is running."""
        self._set_state(node, 0.0, 1.0, "running")

    def progress(self, node: str, value: int, maximum: int, jpeg: bytes | None) -> None:
        """Report a step of a node, and its preview before or after it, depending on its format."""
        self._set_state(node, value, maximum, "running")
        data = {"value": value, "max": maximum, "prompt_id": self.prompt_id, "node": node}
        is_preview_first = self.hub.wants_metadata
        if jpeg is not None and is_preview_first:
            self.hub.publish_preview(jpeg, self._identity(node))
        self.hub.publish("progress", data, self.hub.owner)
        if jpeg is not None and not is_preview_first:
            self.hub.publish_preview(jpeg, self._identity(node))

    def blocked(self, node: str, class_type: str, message: str) -> None:
        """Report that an ExecutionBlocker stopped the nodes behind a node; the run goes on."""
        data: dict[str, Any] = {
            "prompt_id": self.prompt_id,
            "node_id": node,
            "node_type": class_type,
            "executed": [],
            "exception_message": f"Execution Blocked: {message}",
            "exception_type": "ExecutionBlocked",
            "traceback": [],
            "current_inputs": [],
            "current_outputs": [],
        }
        self._send_to_owner("execution_error", data)

    def finished(self, node: str) -> None:
        """Report that a node is done, in this run or in an earlier one."""
        known = self._nodes.get(node, {"max": 1})
        self._set_state(node, known["max"], known["max"], "finished")

    def _set_state(self, node: str, value: float, maximum: float, state: str) -> None:
        self._nodes[node] = {
            "value": value,
            "max": maximum,
            "state": state,
            **self._identity(node),
        }
        data = {"prompt_id": self.prompt_id, "nodes": self._nodes}
        self.hub.publish("progress_state", data, self.hub.owner)

    def _identity(self, node: str) -> dict[str, Any]:
        return {
            "node_id": node,
            "prompt_id": self.prompt_id,
            "display_node_id": node,
            "parent_node_id": None,
            "real_node_id": node,
        }

    def _send_to_owner(self, event: str, data: dict[str, Any]) -> None:
        if self.hub.owner is not None:
            self.hub.publish(event, data, self.hub.owner)
