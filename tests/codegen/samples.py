"""Graphs and node schemas that several tests share."""

from __future__ import annotations

from typing import Any, Final

from support import ROOT
from ugly import node

FLUX: Final = ROOT / "workflows" / "generate_flux_mesh.json"
GOOD: Final[dict[str, Any]] = {"1": node("SaveImage", text="x")}
SCHEMAS: Final[dict[str, Any]] = {
    "KSampler": {
        "input": {
            "required": {
                "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10_000}],
                "model": ["MODEL"],
            }
        },
        "output": ["LATENT"],
    },
    "Numbers": {"input": {"required": {"a": ["FLOAT", {"min": 0.0}], "b": ["FLOAT"]}}},
    "LoadImage": {
        "input": {"required": {"image": [["other.png"], {"image_upload": True}]}},
        "output": ["IMAGE", "MASK"],
    },
    "SaveImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True},
}
