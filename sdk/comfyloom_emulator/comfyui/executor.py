"""Runs the prompts of a server, one at a time."""

import asyncio
import uuid
from typing import Any

import attrs

from comfyloom_emulator.comfyui.graph import ExecutionOrder
from comfyloom_emulator.comfyui.node_run import NodeRun
from comfyloom_emulator.comfyui.queue import QueueItem
from comfyloom_emulator.comfyui.run_errors import NodeFailed, RunInterrupted, WorkerDied
from comfyloom_emulator.comfyui.run_events import RunEvents
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.comfyui.timetable import Timetable
from comfyloom_emulator.faults import PromptFault
from comfyloom_emulator.request_log import PromptStatus


@attrs.define
class Executor:
    """The worker of a server."""

    state: ServerState

    async def work(self) -> None:
        """Run prompts until one kills the worker."""
        while True:
            item = await self.state.queue.take()
            fault = self.state.faults.take_prompt()
            if fault is not None and fault.action == "delete":
                self._delete(item)
                continue
            self.state.set_status(item[1], "running")
            self.state.publish_queue_size()
            try:
                await self._run(item, fault)
            except WorkerDied:
                return
            if self.state.is_free_requested:
                self.state.is_free_requested = False
                self.state.cache.clear()

    def _delete(self, item: QueueItem) -> None:
        self.state.queue.running = None
        self.state.set_status(item[1], "deleted")
        self.state.publish_queue_size()

    async def _run(self, item: QueueItem, fault: PromptFault | None) -> None:
        state = self.state
        if fault is not None and fault.action == "lose_files":
            state.folders.empty("output")
        state.interrupted.clear()
        state.hub.owner = _owner(item[3])
        events = RunEvents(state.hub, state.clock, item[1])
        events.record("execution_start", {})
        run = PromptRun(state, item, events)
        status = await run.execute()
        # The real server stores the history entry a moment after the event of the success.
        late_s = 0.0 if fault is None else fault.seconds
        await asyncio.sleep(max(state.options.history_delay_s, late_s))
        run.store(status)
        state.set_status(item[1], status)
        state.queue.running = None
        state.publish_queue_size()
        events.executing(None)


@attrs.define
class PromptRun:
    """One prompt that is running."""

    state: ServerState
    item: QueueItem
    events: RunEvents
    _executed: list[str] = attrs.field(factory=list[str], init=False)
    _hidden: set[str] = attrs.field(factory=set[str], init=False)

    async def execute(self) -> PromptStatus:
        """Run the nodes and return how the run ended."""
        graph, targets = self.item[2], self.item[4]
        cached = self._prepare()
        self.events.record("execution_cached", {"nodes": cached})
        order = ExecutionOrder(graph, targets, set(cached))
        timetable = Timetable(self.state.clock)
        while (node := order.next()) is not None:
            try:
                await self._run_node(node, timetable)
            except RunInterrupted:
                self.events.record("execution_interrupted", self._node_data(node), to_all=True)
                return "interrupted"
            except NodeFailed as failure:
                self.events.record("execution_error", self._error_data(node, failure))
                return "error"
            self._send_monitor_event()
            order.done(node)
        self.events.record("execution_success", {})
        return "success"

    def store(self, status: PromptStatus) -> None:
        """Store the run in the history, with all ui data that the cache holds for its nodes."""
        cached = {node: self.state.cache.get(node) for node in self.item[2]}
        shown = {
            node: entry
            for node, entry in cached.items()
            if entry is not None and entry.ui is not None and node not in self._hidden
        }
        self.state.history.store(
            self.item,
            {node: entry.ui for node, entry in shown.items()},
            {node: entry.meta for node, entry in shown.items()},
            {
                "status_str": "success" if status == "success" else "error",
                "completed": status == "success",
                "messages": [[event, data] for event, data in self.events.recorded],
            },
        )

    def _prepare(self) -> list[str]:
        try:
            return self.state.cache.prepare(self.item[2], self._fingerprint)
        except (KeyError, AttributeError, TypeError) as error:
            raise WorkerDied from error

    def _fingerprint(self, class_type: str, inputs: dict[str, Any]) -> str:
        node = self.state.nodes.get(class_type)
        if node is None or node.fingerprint is None:
            return ""
        try:
            return node.fingerprint(self.state.folders, inputs)
        except Exception:  # noqa: BLE001 - a node whose fingerprint fails is never cached
            return uuid.uuid4().hex

    async def _run_node(self, node: str, timetable: Timetable) -> None:
        cached = self.state.cache.get(node)
        if cached is not None:
            self.events.executed(node, cached.ui)
            self.events.finished(node)
            return
        run = NodeRun(self.state, self.item, node, self.events)
        entry = await run.execute(timetable)
        self.state.cache.store(node, entry)
        if run.is_output_hidden:
            self._hidden.add(node)
        if entry.ui is not None:
            self.events.executed(node, entry.ui)
        self.events.finished(node)
        self._executed.append(node)

    def _send_monitor_event(self) -> None:
        """Send an event outside the protocol, as custom node packs do."""
        if self.state.options.monitor_events:
            usage = {"cpu_utilization": 12.5, "ram_used_percent": 40.0}
            self.state.hub.publish("crystools.monitor", usage, None)

    def _node_data(self, node: str) -> dict[str, Any]:
        return {
            "node_id": node,
            "node_type": self.item[2][node]["class_type"],
            "executed": [*self._executed],
        }

    def _error_data(self, node: str, failure: NodeFailed) -> dict[str, Any]:
        return {
            **self._node_data(node),
            "exception_message": failure.exception_message,
            "exception_type": failure.exception_type,
            "traceback": failure.traceback,
            "current_inputs": failure.current_inputs,
            "current_outputs": [*self.item[2]],
        }


def _owner(extra_data: Any) -> str | None:
    if "client_id" not in extra_data:
        return None
    try:
        return str(extra_data["client_id"])
    except TypeError as error:
        raise WorkerDied from error
