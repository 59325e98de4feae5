"""One running node: its duration, steps, result and scripted fault."""

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import attrs

from comfyloom_emulator.comfyui.cache import CachedResult
from comfyloom_emulator.comfyui.graph import link_of
from comfyloom_emulator.comfyui.queue import QueueItem
from comfyloom_emulator.comfyui.run_errors import (
    MachineDied,
    NodeFailed,
    RunInterrupted,
    ServerRestarted,
    WorkerDied,
)
from comfyloom_emulator.comfyui.run_events import RunEvents
from comfyloom_emulator.comfyui.schemas import declared_inputs
from comfyloom_emulator.comfyui.state import ServerState
from comfyloom_emulator.comfyui.timetable import Timetable, node_duration_s
from comfyloom_emulator.faults import RunFault
from comfyloom_emulator.json_access import as_object
from comfyloom_emulator.nodes.spec import Node, NodeCall, NodeResult

if TYPE_CHECKING:
    from comfyloom_emulator.nodes.previews import PreviewRenderer

_AT_START = 0
_MAX_TEXT_LENGTH = 2000


@attrs.define
class NodeRun:
    """One node of the running prompt.

    Attributes:
        is_output_hidden: Whether its ui data is left out of the history.
    """

    state: ServerState
    item: QueueItem
    node: str
    events: RunEvents
    is_output_hidden: bool = attrs.field(default=False, init=False)
    _fault: RunFault | None = attrs.field(default=None, init=False)
    _previews: "PreviewRenderer | None" = attrs.field(default=None, init=False)

    @property
    def class_type(self) -> str:
        """The node type."""
        return str(self.item[2][self.node]["class_type"])

    async def execute(self, timetable: Timetable) -> CachedResult:
        """Run the node.

        Raises:
            RunInterrupted, NodeFailed: The node did not finish.
            MachineDied, ServerRestarted, WorkerDied: A fault ended the machine, server or worker.
        """
        self.events.started(self.node)
        self.events.executing(self.node)
        self._check_interrupt()
        self._fault = self.state.faults.take_run(self.node, self.class_type)
        inputs: dict[str, Any] = {}
        try:
            inputs = self._inputs()
            await self._apply_fault(_AT_START)
            spec = self.state.nodes[self.class_type]
            result = await asyncio.to_thread(spec.run, self._call(inputs))
            await self._spend_time(spec, inputs, result, timetable)
        except (RunInterrupted, MachineDied, ServerRestarted, WorkerDied):
            raise
        except Exception as error:
            raise _failure(error, inputs) from error
        for number, frame in enumerate(result.frames, 1):
            self.events.progress(self.node, number, len(result.frames), frame)
        if result.blocked:
            self.events.blocked(self.node, self.class_type, result.blocked)
        self._damage_output(result)
        return self._entry(result)

    async def _spend_time(
        self, spec: Node, inputs: dict[str, Any], result: NodeResult, timetable: Timetable
    ) -> None:
        seconds = node_duration_s(self.class_type, spec, inputs, self.state.options)
        steps = spec.steps(inputs)
        for step in range(1, steps + 1):
            await timetable.spend(seconds / steps)
            self._check_interrupt()
            await self._apply_fault(step)
            jpeg = self._preview(result, step, steps)
            self.events.progress(self.node, step, steps, jpeg)
        if steps == 0:
            await self._wait(seconds, timetable, heedful=spec.heedful(inputs))

    async def _wait(self, seconds: float, timetable: Timetable, *, heedful: bool) -> None:
        if not heedful:
            await timetable.spend(seconds)
            return
        waits = [
            asyncio.ensure_future(timetable.spend(seconds)),
            asyncio.ensure_future(self.state.interrupted.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._check_interrupt()

    def _preview(self, result: NodeResult, step: int, steps: int) -> bytes | None:
        wanted = self.state.options.previews and self.state.hub.has_audience
        if result.picture is None or not wanted:
            return None
        if self._previews is None:
            # Imported late: by now numpy and Pillow are loaded, because they made the picture.
            from comfyloom_emulator.nodes.previews import PreviewRenderer

            self._previews = PreviewRenderer(result.picture)
        return self._previews.jpeg(step / steps)

    def _check_interrupt(self) -> None:
        if self.state.interrupted.is_set():
            self.state.interrupted.clear()
            raise RunInterrupted

    async def _apply_fault(self, step: int) -> None:
        fault = self._fault
        if fault is None or (fault.step or _AT_START) != step:
            return
        match fault.action:
            case "raise":
                raise ScriptedFailure(fault.exception_type, fault.message)
            case "die":
                raise MachineDied
            case "restart":
                raise ServerRestarted
            case "interrupt":
                raise RunInterrupted
            case "kill_worker":
                raise WorkerDied
            case "hang":
                await self.state.interrupted.wait()
                self._check_interrupt()
            case "no_output" | "truncate" | "lose_file":
                pass

    def _damage_output(self, result: NodeResult) -> None:
        if self._fault is None:
            return
        self.is_output_hidden = self._fault.action == "no_output"
        for path in result.saved:
            if self._fault.action == "truncate":
                with path.open("r+b") as file:
                    file.truncate(self._fault.size)
            elif self._fault.action == "lose_file":
                path.unlink()

    def _inputs(self) -> dict[str, Any]:
        given = self.item[2][self.node]["inputs"]
        known = {spec.name for spec in declared_inputs(self.state.schemas[self.class_type])}
        return {name: self._value(value) for name, value in given.items() if name in known}

    def _value(self, value: Any) -> Any:
        link = link_of(value)
        if link is None:
            return value
        source, slot = link
        cached = self.state.cache.get(source)
        assert cached is not None
        return cached.outputs[slot]

    def _call(self, inputs: dict[str, Any]) -> NodeCall:
        schema = self.state.schemas[self.class_type]
        return NodeCall(
            node=self.node,
            class_type=self.class_type,
            inputs=inputs,
            schema=schema,
            folders=self.state.folders,
            metadata=self._metadata(schema.get("input", {}).get("hidden", {}).values()),
            # A list is accepted for it, and fails only where its content is needed.
            extra_data={
                **(as_object(self.item[3]) or {}),
                **self.state.secrets.get(self.item[1], {}),
            },
        )

    def _metadata(self, hidden: Any) -> dict[str, str]:
        metadata: dict[str, str] = {}
        if "PROMPT" in hidden:
            metadata["prompt"] = json.dumps(self.item[2])
        if "EXTRA_PNGINFO" in hidden:
            extra: dict[str, Any] = self.item[3].get("extra_pnginfo") or {}
            metadata |= {name: json.dumps(value) for name, value in extra.items()}
        return metadata

    def _entry(self, result: NodeResult) -> CachedResult:
        meta = {
            "node_id": self.node,
            "display_node": self.node,
            "parent_node": None,
            "real_node_id": self.node,
        }
        return CachedResult(result.outputs, None if result.ui is None else dict(result.ui), meta)


class ScriptedFailure(Exception):
    """The exception that a scripted fault raises in a node."""

    def __init__(self, exception_type: str, message: str) -> None:
        super().__init__(message)
        self.exception_type = exception_type


def _failure(error: Exception, inputs: dict[str, Any]) -> NodeFailed:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    if isinstance(error, ScriptedFailure):
        name = error.exception_type
    traceback = [
        '  File "/comfyui/execution.py", line 496, in execute\n',
        '  File "/comfyui/execution.py", line 277, in process_inputs\n',
    ]
    shown = {name: [_printable(value)] for name, value in inputs.items()}
    return NodeFailed(name, f"{error}\n", traceback, shown)


def _printable(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    with contextlib.suppress(Exception):
        return str(value)[:_MAX_TEXT_LENGTH]
    return "?"
