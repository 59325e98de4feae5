"""The node types that the recordings were made with, and graphs of them."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

from comfyloom.emulator import Node, NodeCall, NodeResult
from support import RECORDINGS

_PROGRESS_MS = 20


def _schema(inputs: dict[str, Any], output: list[str], *, saves: bool = False) -> dict[str, Any]:
    return {"input": {"required": inputs}, "output": output, "output_node": saves}


OBJECT_INFO: dict[str, Any] = {
    "LabSleep": _schema(
        {
            "ms": ["INT", {"default": 500, "min": 0, "max": 600000}],
            "tag": ["STRING", {"default": ""}],
            "interruptible": ["BOOLEAN", {"default": True}],
            "progress": ["BOOLEAN", {"default": False}],
        },
        ["IMAGE"],
    ),
    "LabRaise": _schema({"message": ["STRING", {"default": "boom"}]}, ["IMAGE"]),
    "LabQuiet": _schema({"image": ["IMAGE"]}, [], saves=True),
    "ImageInvert": _schema({"image": ["IMAGE"]}, ["IMAGE"]),
    "KSamplerSelect": _schema({"sampler_name": [[f"s{n}" for n in range(30)]]}, ["SAMPLER"]),
    "SamplerCustom": _schema({"model": ["MODEL"]}, ["LATENT", "LATENT"]),
    "LabCombo": _schema({"dim": ["COMBO", {"options": ["x", "y"]}]}, ["IMAGE"]),
}


def _image(_call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture

    return NodeResult(outputs=(Picture(np.zeros((1, 8, 8, 3), np.float32)),))


def _raise(call: NodeCall) -> NodeResult:
    raise ValueError(call.inputs["message"])


NODES = {
    "LabSleep": Node(
        run=_image,
        seconds=lambda inputs: inputs["ms"] / 1000,
        steps=lambda inputs: inputs["ms"] // _PROGRESS_MS if inputs["progress"] else 0,
        heedful=lambda inputs: bool(inputs["interruptible"]),
    ),
    "LabRaise": Node(run=_raise),
    "LabQuiet": Node(run=lambda _call: NodeResult()),
}


def sleep(
    ms: int = 1, tag: str = "t", *, interruptible: bool = True, progress: bool = False
) -> dict[str, Any]:
    """Return a graph that sleeps, then previews an image."""
    inputs = {"ms": ms, "tag": tag, "interruptible": interruptible, "progress": progress}
    return {
        "1": {"class_type": "LabSleep", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


@cache
def _cases() -> dict[str, Any]:
    cases: dict[str, Any] = json.loads(
        (RECORDINGS / "prompt" / "post_prompt_cases.json").read_text("utf-8")
    )
    return cases


def cases() -> dict[str, Any]:
    """Return the recorded POST /prompt requests and their answers, by name."""
    return _cases()


def flux_mesh(
    prompt: str = "a small brass automaton", image: str = "example.png", size: int = 200
) -> Any:
    """Return the graph of the flux-mesh workflow; its image is small by default."""
    graph = copy.deepcopy(_cases()["success_full_graph"]["request"]["prompt"])
    graph["16"]["inputs"]["image"] = image
    graph["6"]["inputs"] |= {"width": size, "height": size}
    graph["34"]["inputs"] |= {"clip_l": prompt, "t5xxl": prompt}
    return graph
