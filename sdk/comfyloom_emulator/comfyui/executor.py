"""Runs the prompts of a server, one after the other."""

import asyncio
import uuid
from typing import Any

import attrs

from comfyloom_emulator.comfyui.failures import DeadWorker, FailedNode, InterruptedRun
from comfyloom_emulator.comfyui.graph import RunOrder
from comfyloom_emulator.comfyui.messages import Messages
from comfyloom_emulator.comfyui.noderun import NodeRun
from comfyloom_emulator.comfyui.queue import Item
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.comfyui.timetable import Pace
from comfyloom_emulator.faults import PromptFault
from comfyloom_emulator.journal import PromptStatus


@attrs.define
class Executor:
    """The worker of a server."""

    state: ServerState

    async def work(self) -> None:
        """Run prompts for ever, or until one kills the worker."""
        while True:
            item = await self.state.queue.take()
            fault = self.state.faults.take_prompt()
            if fault is not None and fault.action == "delete":
                self._vanish(item)
                continue
            self.state.mark(item[1], "running")
            self.state.announce_queue()
            try:
                await self._run(item, fault)
            except DeadWorker:
                return
            self._free()

    def _vanish(self, item: Item) -> None:
        self.state.queue.running = None
        self.state.mark(item[1], "deleted")
        self.state.announce_queue()

    async def _run(self, item: Item, fault: PromptFault | None) -> None:
        state = self.state
        if fault is not None and fault.action == "lose_files":
            state.folders.empty("output")
        state.interrupted.clear()
        state.hub.owner = _owner(item[3])
        messages = Messages(state.hub, state.clock, item[1])
        messages.keep("execution_start", {})
        run = Run(state, item, messages)
        status = await run.execute()
        # The real server stores the entry a moment after it has told of the success.
        late_s = 0.0 if fault is None else fault.seconds
        await asyncio.sleep(max(state.options.history_delay_s, late_s))
        run.store(status)
        state.mark(item[1], status)
        state.queue.running = None
        state.announce_queue()
        messages.executing(None)

    def _free(self) -> None:
        if self.state.free_wanted:
            self.state.free_wanted = False
            self.state.cache.clear()


@attrs.define
class Run:
    """One prompt that is running."""

    state: ServerState
    item: Item
    messages: Messages
    _executed: list[str] = attrs.field(factory=list[str], init=False)
    _hidden: set[str] = attrs.field(factory=set[str], init=False)

    async def execute(self) -> PromptStatus:
        """Run the nodes; gives how that ended."""
        graph, targets = self.item[2], self.item[4]
        cached = self._prepare()
        self.messages.keep("execution_cached", {"nodes": cached})
        order = RunOrder(graph, targets, set(cached))
        pace = Pace(self.state.clock)
        while (node := order.next()) is not None:
            try:
                await self._run_node(node, pace)
            except InterruptedRun:
                self.messages.keep("execution_interrupted", self._where(node), to_all=True)
                return "interrupted"
            except FailedNode as failure:
                self.messages.keep("execution_error", self._describe(node, failure))
                return "error"
            self._monitor()
            order.done(node)
        self.messages.keep("execution_success", {})
        return "success"

    def store(self, status: PromptStatus) -> None:
        """Put the run into the history, with all ui data that the cache has for its nodes."""
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
                "messages": [[event, data] for event, data in self.messages.kept],
            },
        )

    def _prepare(self) -> list[str]:
        try:
            return self.state.cache.prepare(self.item[2], self._fingerprint)
        except (KeyError, AttributeError, TypeError) as error:
            raise DeadWorker from error

    def _fingerprint(self, class_type: str, inputs: dict[str, Any]) -> str:
        node = self.state.nodes.get(class_type)
        if node is None or node.fingerprint is None:
            return ""
        try:
            return node.fingerprint(self.state.folders, inputs)
        except Exception:  # noqa: BLE001 - a node that cannot tell is never found in the cache
            return uuid.uuid4().hex

    async def _run_node(self, node: str, pace: Pace) -> None:
        cached = self.state.cache.get(node)
        if cached is not None:
            self.messages.executed(node, cached.ui)
            self.messages.finished(node)
            return
        run = NodeRun(self.state, self.item, node, self.messages)
        entry = await run.execute(pace)
        self.state.cache.store(node, entry)
        if run.output_hidden:
            self._hidden.add(node)
        if entry.ui is not None:
            self.messages.executed(node, entry.ui)
        self.messages.finished(node)
        self._executed.append(node)

    def _monitor(self) -> None:
        """Send what a custom node pack would: an event that is no business of the protocol."""
        if self.state.options.monitor_events:
            usage = {"cpu_utilization": 12.5, "ram_used_percent": 40.0}
            self.state.hub.publish("crystools.monitor", usage, None)

    def _where(self, node: str) -> dict[str, Any]:
        return {
            "node_id": node,
            "node_type": self.item[2][node]["class_type"],
            "executed": [*self._executed],
        }

    def _describe(self, node: str, failure: FailedNode) -> dict[str, Any]:
        return {
            **self._where(node),
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
        raise DeadWorker from error
