"""The known node types and their behaviour."""

from collections.abc import Iterator, Mapping
from typing import Any

from comfyloom_emulator.nodes.images import IMAGES
from comfyloom_emulator.nodes.loading import LOADERS
from comfyloom_emulator.nodes.meshes import MESHES
from comfyloom_emulator.nodes.placeholder_nodes import placeholder_node
from comfyloom_emulator.nodes.sampling import SAMPLING
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.nodes.texts import TEXTS

BUILT_IN: Mapping[str, Node] = {**LOADERS, **TEXTS, **SAMPLING, **IMAGES, **MESHES}


class NodeRegistry(Mapping[str, Node]):
    """The behaviour of every node type that has a schema.

    Args:
        schemas: The schemas of the known node types.
        extra: Behaviour that takes precedence over the emulator's own.
    """

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]], extra: Mapping[str, Node]) -> None:
        self._schemas = schemas
        self._extra = extra

    def __getitem__(self, class_type: str) -> Node:
        if class_type in self._extra:
            return self._extra[class_type]
        return BUILT_IN.get(class_type) or placeholder_node(self._schemas[class_type])

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)

    def __len__(self) -> int:
        return len(self._schemas)
