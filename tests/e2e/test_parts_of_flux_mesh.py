"""The workflows that are parts of the flux-mesh workflow: the same nodes, and they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom_workflows import (
    FluxDepthWorkflow,
    FluxImageWorkflow,
    FluxMeshWorkflow,
    PartPackerWorkflow,
)

WHOLE = FluxMeshWorkflow.template_graph()


@pytest.mark.parametrize(
    ("part", "left_out", "changed"),
    [
        (FluxDepthWorkflow, {"30", "32", "33"}, {}),
        (
            FluxImageWorkflow,
            {"13", "14", "16", "25", "30", "32", "33"},
            {("3", "controlnet_condition"): None},
        ),
        (
            PartPackerWorkflow,
            set(WHOLE) - {"16", "30", "32", "33", "36", "37"},
            {("37", "image"): ["16", 0]},
        ),
    ],
)
def test_a_part_has_the_nodes_of_the_whole(part: Any, left_out: set[str], changed: Any) -> None:
    expected = {node: entry for node, entry in WHOLE.items() if node not in left_out}
    for (node, name), value in changed.items():
        expected[node]["inputs"] = {
            key: value if key == name else old
            for key, old in expected[node]["inputs"].items()
            if key != name or value is not None
        }
    assert part.template_graph() == expected
    assert list(part.template_graph()) == list(expected)


def test_the_depth_part_gives_the_picture_of_the_whole(
    session_on: Callable[..., RunComfySession], render: Path
) -> None:
    values: Any = {"input_image": render, "prompt": "a jade dragon", "width": 64, "height": 64}
    with session_on() as session:
        whole = session.run(FluxMeshWorkflow(**values, seed=7))
        part = session.run(FluxDepthWorkflow(**values, seed=7))
    assert part.image.path.name == "flux.png"
    assert part.seed == 7
    assert pixels(part.image.path) == pixels(whole.image.path)


def test_a_picture_of_a_prompt_becomes_a_mesh(
    session_on: Callable[..., RunComfySession], tmp_path: Path
) -> None:
    with session_on() as session:
        picture = session.run(FluxImageWorkflow(prompt="a brass robot", width=64, height=64))
        mesh = session.run(
            PartPackerWorkflow(input_image=picture.image.path, steps=3), out_dir=tmp_path
        )
    assert mesh.mesh.path == tmp_path / "partpacker_result_0.glb"
    assert mesh.mesh.bytes().startswith(b"glTF")
    assert mesh.seed is not None
    assert mesh.seed < 2**31


def pixels(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.mode == "RGBA"
        return picture.tobytes()
