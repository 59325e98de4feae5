"""Small graphs for what runs: their nodes, and a node that makes a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfyloom.emulator import NodeCall, NodeResult

Posted = Callable[[], list[dict[str, Any]]]

FILL: dict[str, Any] = {
    "1": {"class_type": "EmptyPicture", "inputs": {"color": 7}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}
SIDE: dict[str, Any] = {
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "log"},
        "_meta": {"title": "Log it"},
    }
}
EMPTY_PICTURE: dict[str, Any] = {
    "EmptyPicture": {
        "input": {"required": {"color": ["INT", {"default": 0}]}},
        "output": ["IMAGE"],
    }
}
RESULT = '[results]\npicture = { node = "2", kind = "image" }\n'


def picture(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture

    return NodeResult(outputs=(Picture(np.full((1, 8, 8, 3), 0.5, np.float32)),))
