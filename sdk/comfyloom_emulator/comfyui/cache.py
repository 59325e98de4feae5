"""ComfyUI's classic cache: node results by the content of their inputs, kept for one prompt."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import attrs

from comfyloom_emulator.comfyui.graph import link_of
from comfyloom_emulator.comfyui.queue import Graph

Fingerprint = Callable[[str, dict[str, Any]], str]


@attrs.frozen(eq=False)
class CachedResult:
    """The result of a node run: output slots, ui data, and the node ids in `meta`."""

    outputs: tuple[object, ...]
    ui: dict[str, Any] | None
    meta: dict[str, Any]


@attrs.define
class Cache:
    """Keeps only results that nodes of the latest prompt can use."""

    _entries: dict[str, CachedResult] = attrs.field(factory=dict[str, CachedResult])
    _keys: dict[str, str] = attrs.field(factory=dict[str, str])

    def prepare(self, graph: Graph, fingerprint: Fingerprint) -> list[str]:
        """Switch to a new prompt, drop results it does not use, and return its cached nodes.

        Raises:
            KeyError, AttributeError: The inputs of a node, linked or not, are not an object.
        """
        signatures = _Signatures(graph, fingerprint)
        self._keys = {node: signatures.of(node) for node in graph}
        used = set(self._keys.values())
        self._entries = {key: value for key, value in self._entries.items() if key in used}
        return [node for node, key in self._keys.items() if key in self._entries]

    def get(self, node: str) -> CachedResult | None:
        """Return the result of a node of the current prompt, if it is cached."""
        key = self._keys.get(node)
        return None if key is None else self._entries.get(key)

    def store(self, node: str, value: CachedResult) -> None:
        """Store the result of a node of the current prompt."""
        self._entries[self._keys[node]] = value

    def clear(self) -> None:
        """Drop all results."""
        self._entries.clear()


@attrs.define
class _Signatures:
    graph: Graph
    fingerprint: Fingerprint
    _known: dict[str, str] = attrs.field(factory=dict[str, str], init=False)

    def of(self, node: str) -> str:
        if node not in self._known:
            self._known[node] = "cycle"
            self._known[node] = self._digest(node)
        return self._known[node]

    def _digest(self, node: str) -> str:
        class_type, inputs = self.graph[node]["class_type"], self.graph[node]["inputs"]
        parts = [(name, self._part(inputs[name])) for name in sorted(inputs.keys())]
        content = [class_type, self.fingerprint(class_type, inputs), parts]
        return hashlib.sha256(json.dumps(content, default=repr).encode()).hexdigest()

    def _part(self, value: Any) -> Any:
        link = link_of(value)
        if link is None:
            return value
        source, slot = link
        return ["link", self.of(source) if source in self.graph else source, slot]
