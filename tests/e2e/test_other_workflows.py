"""A workflow of another kind, generated without a binding, runs on the emulator."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfyloom import ImageOutput, RunComfySession
from comfyloom.emulator import Emulator
from comfyloom_codegen import generate

GRAPH: dict[str, Any] = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 4,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["6", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {
        "class_type": "SaveImage",
        "inputs": {"filename_prefix": "x", "images": ["8", 0]},
        "_meta": {"title": "Picture"},
    },
}


@pytest.fixture
def cls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "text to image.json").write_text(json.dumps(GRAPH), "utf-8")
    generate(tmp_path / "workflows", tmp_path, "other_flows").raise_for_errors()
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("other_flows").TextToImageWorkflow
    for name in [name for name in sys.modules if name.startswith("other_flows")]:
        del sys.modules[name]


def test_it_round_trips(cls: Any) -> None:
    assert json.dumps(cls().to_graph()) == json.dumps(GRAPH)


def test_it_runs(cls: Any, emulator: Emulator, session_on: Callable[..., RunComfySession]) -> None:
    with session_on() as session:
        result = session.run(cls().with_clip_text_encode_text("a dog"))
    outputs = [getattr(result, spec.name) for spec in cls.__workflow__.outputs]
    assert [type(output) for output in outputs] == [ImageOutput]
    assert outputs[0].bytes().startswith(b"\x89PNG")
    assert emulator.state()["prompts"][0]["status"] == "success"
