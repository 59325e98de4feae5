"""Progress from the events of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from comfyloom._comfyui.events import ServerEvent
from comfyloom._core.json import items, mapping, number
from comfyloom._session.progress_meter import Meter
from comfyloom._workflow.graph import Graph, title
from comfyloom._workflow.workflow import Workflow
from comfyloom.progress import Kind


class ProgressReporter:
    """Turns the server's events into human-readable progress; a `RunListener`."""

    def __init__(self, graph: Graph, workflow: Workflow[Any], say: Callable[..., object]) -> None:
        self._graph = graph
        self._meter = Meter.of(graph, workflow.__workflow__.stages)
        self._say = say
        self._node = ""
        self._step: tuple[str, float, float] | None = None
        # Whether the server reports finished nodes; old ones do not.
        self._has_node_states = False

    def on_queued(self, position: int) -> None:
        """Report that the run waits behind `position` other runs."""
        behind = f", {position} ahead of it" if position else ""
        self._report("queued", f"queued{behind}", position=position)

    def on_running(self) -> None:
        """Report that the run has started, without an event."""
        self._report("started", "started")

    def on_silent(self, seconds: float) -> None:
        """Report how long the running run has been silent."""
        what = title(self._graph, self._node) if self._node else "the run"
        self._report("silent", f"{what} is running, but has been silent for {seconds:.0f} s")

    def on_event(self, event: ServerEvent) -> None:
        """Report an event, unless it is irrelevant to the user."""
        if (handler := self._HANDLERS.get(event.type)) is not None:
            handler(self, event)

    def _on_cached(self, event: ServerEvent) -> None:
        nodes = [node for node in map(str, items(event.data.get("nodes"))) if node in self._graph]
        self._meter.finish(nodes)
        if nodes:
            kept = f"{len(nodes)} of {len(self._graph)} nodes are in the server's cache"
            self._report("started", f"started, {kept}")

    def _on_executing(self, event: ServerEvent) -> None:
        if event.node is None or event.node not in self._graph:
            return
        if self._node and not self._has_node_states:
            self._meter.finish([self._node])
        self._node = event.node
        self._report("node", title(self._graph, self._node))

    def _on_executed(self, event: ServerEvent) -> None:
        if event.node in self._graph:
            self._meter.finish([event.node or ""])

    def _on_progress(self, event: ServerEvent) -> None:
        node = event.node or self._node
        self._steps(node, number(event.data.get("value")), number(event.data.get("max")))

    def _on_progress_state(self, event: ServerEvent) -> None:
        self._has_node_states = True
        for state in map(mapping, mapping(event.data.get("nodes")).values()):
            node = str(state.get("display_node_id") or state.get("node_id") or "")
            if node not in self._graph:
                continue
            if state.get("state") == "finished":
                self._meter.finish([node])
            elif state.get("state") == "running":
                self._steps(node, number(state.get("value")), number(state.get("max")))

    def _on_preview(self, event: ServerEvent) -> None:
        self._node = event.node or self._node
        if event.blob and self._node in self._graph:
            self._report("preview", f"preview, {self._message()}", preview=event.blob)

    def _steps(self, node: str, value: float | None, maximum: float | None) -> None:
        if value is None or maximum is None or maximum <= 1 or node not in self._graph:
            return
        if self._step == (node, value, maximum):  # `progress` and `progress_state` both report it
            return
        self._step, self._node = (node, value, maximum), node
        self._meter.step(node, value, maximum)
        self._report("step", self._message(), value=float(value), maximum=float(maximum))

    def _message(self) -> str:
        """Return the title of the running node, with its steps if it reports them."""
        name = title(self._graph, self._node)
        if self._step is None or self._step[0] != self._node:
            return name
        return f"{name} {self._step[1]:g}/{self._step[2]:g}"

    def _report(self, kind: Kind, message: str, **facts: Any) -> None:
        self._say(
            kind,
            message,
            fraction=self._meter.fraction,
            stage=self._meter.stage_of(self._node),
            stages=self._meter.parts(),
            node=self._node,
            **facts,
        )

    _HANDLERS: ClassVar[Mapping[str, Callable[[Any, ServerEvent], None]]] = {
        "execution_start": lambda reporter, _: reporter.on_running(),
        "execution_cached": _on_cached,
        "executing": _on_executing,
        "executed": _on_executed,
        "progress": _on_progress,
        "progress_state": _on_progress_state,
        "preview": _on_preview,
    }
