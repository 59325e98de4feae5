"""The classic cache: results of nodes, by what they are made of, kept for one prompt."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import attrs

from comfyloom_emulator.comfyui.graph import link_of
from comfyloom_emulator.comfyui.queue import Graph

Fingerprint = Callable[[str, dict[str, Any]], str]


@attrs.frozen(eq=False)
class Cached:
    """The result of a node run: its output slots, and its ui data with where they came from."""

    outputs: tuple[object, ...]
    ui: dict[str, Any] | None
    meta: dict[str, Any]


@attrs.define
class Cache:
    """Keeps only what the last prompt's nodes can use."""

    _entries: dict[str, Cached] = attrs.field(factory=dict[str, Cached])
    _keys: dict[str, str] = attrs.field(factory=dict[str, str])

    def prepare(self, graph: Graph, fingerprint: Fingerprint) -> list[str]:
        """Turn to a new prompt, dropping what it does not use; gives its cached nodes.

        Raises:
            KeyError, AttributeError: A node, connected or not, has no object as its inputs.
        """
        signatures = _Signatures(graph, fingerprint)
        self._keys = {node: signatures.of(node) for node in graph}
        used = set(self._keys.values())
        self._entries = {key: value for key, value in self._entries.items() if key in used}
        return [node for node, key in self._keys.items() if key in self._entries]

    def get(self, node: str) -> Cached | None:
        """The result of a node of the current prompt."""
        key = self._keys.get(node)
        return None if key is None else self._entries.get(key)

    def store(self, node: str, value: Cached) -> None:
        """Keep the result of a node of the current prompt."""
        self._entries[self._keys[node]] = value

    def clear(self) -> None:
        """Forget all results."""
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
