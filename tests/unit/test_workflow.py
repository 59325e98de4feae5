"""The generated class of the flux-mesh workflow, as callers use it."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyloom import Result, Workflow
from comfyloom._workflow.graph import check_graph, literal
from comfyloom._workflow.input_spec import Target
from comfyloom._workflow.run_values import draw_seeds, read_files
from comfyloom.errors import GraphError, InputFileError, InputValueError
from comfyloom_workflows import FluxMeshResult, FluxMeshWorkflow

FILE = Path(__file__).parents[2] / "workflows" / "generate_flux_mesh.json"


def build(**values: Any) -> FluxMeshWorkflow:
    return FluxMeshWorkflow(**{"input_image": "render.png", "prompt": "x", **values})


def test_the_constructor_and_both_chains_give_equal_objects() -> None:
    built = FluxMeshWorkflow(input_image="a.png", prompt="x", steps=30)
    on_class = FluxMeshWorkflow.with_input_image("a.png").with_prompt("x").with_steps(30)
    on_instance = built.with_prompt("y").with_steps(20).with_steps(30).with_prompt("x")
    assert built == on_class == on_instance
    assert hash(built) == hash(on_class)
    assert isinstance(built, Workflow)
    assert issubclass(FluxMeshResult, Result)


def test_the_template_is_a_new_copy_of_the_file() -> None:
    original = json.loads(FILE.read_text("utf-8"))
    template = FluxMeshWorkflow.template_graph()
    assert template == original
    assert list(template) == list(original)
    template["3"]["inputs"]["steps"] = 1
    assert FluxMeshWorkflow.template_graph() == original


def test_the_graph_is_the_file_except_for_the_values_set() -> None:
    graph, template = build().to_graph(), FluxMeshWorkflow.template_graph()
    assert graph["16"]["inputs"].pop("image") == "render.png"
    assert template["16"]["inputs"].pop("image") == "render.png"
    for name in ("clip_l", "t5xxl"):
        assert graph["34"]["inputs"].pop(name) == "x"
        assert template["34"]["inputs"].pop(name)
    assert json.dumps(graph) == json.dumps(template)
    assert graph["33"]["inputs"]["mesh"] == ["32", 1]


def test_every_value_goes_to_its_node() -> None:
    workflow = build(
        negative_prompt="blurry",
        seed=2**40 + 3,
        guidance=5,
        control_strength=0.5,
        steps=7,
        width=640,
        height=480,
        mesh_steps=9,
        mesh_cfg_scale=3.5,
        mesh_grid_resolution=256,
        mesh_target_faces=5000,
        mesh_simplify=True,
    )
    graph = workflow.to_graph()
    assert graph["19"]["inputs"] | {"clip": 0, "guidance": 0} == {
        "clip_l": "blurry",
        "t5xxl": "blurry",
        "guidance": 0,
        "clip": 0,
    }
    assert graph["3"]["inputs"]["noise_seed"] == 2**40 + 3
    assert graph["32"]["inputs"]["seed"] == (2**40 + 3) % 2**31
    assert graph["34"]["inputs"]["guidance"] == 5
    assert graph["14"]["inputs"]["strength"] == 0.5
    assert graph["3"]["inputs"]["steps"] == 7
    assert (graph["6"]["inputs"]["width"], graph["6"]["inputs"]["height"]) == (640, 480)
    mesh = graph["32"]["inputs"]
    assert (mesh["steps"], mesh["cfg_scale"], mesh["grid_res"]) == (9, 3.5, 256)
    assert (mesh["target_num_faces"], mesh["simplify_mesh"]) == (5000, True)


@pytest.mark.parametrize(
    ("values", "field", "node"),
    [
        ({"guidance": 100.5}, "guidance", "34"),
        ({"control_strength": -0.1}, "control_strength", "14"),
        ({"steps": 0}, "steps", "3"),
        ({"steps": True}, "steps", "3"),
        ({"steps": 2.0}, "steps", "3"),
        ({"width": 15}, "width", "6"),
        ({"height": 16385}, "height", "6"),
        ({"mesh_steps": 2}, "mesh_steps", "32"),
        ({"mesh_grid_resolution": 2049}, "mesh_grid_resolution", "32"),
        ({"mesh_target_faces": 2**31}, "mesh_target_faces", "32"),
        ({"mesh_simplify": 1}, "mesh_simplify", "32"),
        ({"seed": -1}, "seed", "3"),
        ({"seed": 2**64}, "seed", "3"),
        ({"guidance": float("nan")}, "guidance", "34"),
        ({"guidance": "4"}, "guidance", "34"),
        ({"guidance": 10**400}, "guidance", "34"),
        ({"steps": 10**5000}, "steps", "3"),
        ({"prompt": "lone \ud800"}, "prompt", "34"),
        ({"prompt": None}, "prompt", "34"),
        ({"prompt": " \n"}, "prompt", "34"),
        ({"negative_prompt": 3}, "negative_prompt", "19"),
        ({"input_image": None}, "input_image", "16"),
        ({"input_image": 3}, "input_image", "16"),
    ],
)
def test_a_wrong_value_is_refused_at_once(values: dict[str, Any], field: str, node: str) -> None:
    with pytest.raises(InputValueError) as caught:
        build(**values)
    assert (caught.value.field, caught.value.node) == (field, node)
    assert caught.value.reason
    assert len(caught.value.problems) == 1


def test_the_limits_of_a_range_are_valid() -> None:
    build(seed=2**64 - 1, mesh_grid_resolution=128, guidance=0, steps=100, control_strength=10)


def test_all_wrong_values_are_reported_together() -> None:
    with pytest.raises(InputValueError) as caught:
        build(steps=0, guidance=-1)
    assert [problem.field for problem in caught.value.problems] == ["guidance", "steps"]


def test_all_values_that_a_chain_left_unset_are_reported_together() -> None:
    chained = FluxMeshWorkflow.with_steps(5)
    assert "UNSET" in repr(chained)
    for use in (chained.to_graph, lambda: read_files(chained)):
        with pytest.raises(InputValueError) as caught:
            use()
        assert [problem.field for problem in caught.value.problems] == ["input_image", "prompt"]
    with pytest.raises(InputValueError, match="input_image"):
        FluxMeshWorkflow(prompt="x")  # type: ignore[call-arg]


def test_numbers_of_array_libraries_become_python_numbers() -> None:
    import numpy as np

    graph = build(steps=np.int64(7), guidance=np.float32(2.5), seed=np.uint64(9)).to_graph()
    assert json.loads(json.dumps(graph))["3"]["inputs"]["steps"] == 7
    assert graph["34"]["inputs"]["guidance"] == 2.5
    assert graph["3"]["inputs"]["noise_seed"] == 9


def test_objects_are_frozen_and_can_be_pickled(render: Path) -> None:
    workflow = build(input_image=render)
    with pytest.raises(AttributeError):
        workflow.prompt = "y"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(workflow)) == workflow
    chained = FluxMeshWorkflow.with_prompt("x")
    assert pickle.loads(pickle.dumps(chained)) == chained


def test_the_repr_of_a_large_image_is_short() -> None:
    assert len(repr(build(input_image=b"x" * 10_000))) < 600


def test_files_are_opened_by_a_run_and_not_before(tmp_path: Path, render: Path) -> None:
    missing = build(input_image=tmp_path / "missing.png")
    missing.to_graph()
    with pytest.raises(InputFileError, match=r"missing.png: No such file") as caught:
        read_files(missing)
    assert caught.value.field == "input_image"
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(InputValueError, match="not an image"):
        read_files(build(input_image=tmp_path / "text.png"))
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputValueError, match="empty"):
        read_files(build(input_image=tmp_path / "empty.png"))
    (tmp_path / "cut.png").write_bytes(render.read_bytes()[:3000])
    with pytest.raises(InputValueError, match=r"cut.png: the PNG is truncated"):
        read_files(build(input_image=tmp_path / "cut.png"))
    (tmp_path / "more.png").write_bytes(render.read_bytes() + b"appended")
    read_files(build(input_image=tmp_path / "more.png"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputValueError, match="not a regular file"):
        read_files(build(input_image=tmp_path / "fifo"))
    with pytest.raises(InputFileError, match="Is a directory"):
        read_files(build(input_image=tmp_path))
    file = read_files(build(input_image=render))["input_image"]
    assert file.content == render.read_bytes()
    assert file.name.endswith(".png")
    assert len(file.name) == 36


def test_bytes_and_pillow_images_are_accepted(render: Path) -> None:
    from PIL import Image

    raw = read_files(build(input_image=render.read_bytes()))["input_image"]
    assert raw.name == read_files(build(input_image=render))["input_image"].name
    with Image.open(render) as image:
        drawn = read_files(build(input_image=image))["input_image"]
    assert drawn.content.startswith(b"\x89PNG")


def test_a_seed_is_drawn_only_if_none_is_given() -> None:
    assert draw_seeds(build(), lambda bound: bound) == {"seed": 2**64 - 1}
    assert draw_seeds(build(seed=0), lambda bound: bound) == {"seed": 0}


def test_a_graph_that_would_hang_a_server_is_refused() -> None:
    node = {"class_type": "A", "inputs": {}}
    check_graph({"1": node, "2": {"class_type": "B", "inputs": {"x": ["1", 0]}}})
    for graph, text in (
        ({}, "no nodes"),
        ({"1": {"inputs": {}}}, "no class_type"),
        ({"1": {"class_type": "A"}}, "no inputs"),
        ({"1": {"class_type": "A", "inputs": []}}, "no inputs"),
        ({"1": {"class_type": "A", "inputs": {"x": ["9", 0]}}}, "node 9, which does not exist"),
    ):
        with pytest.raises(GraphError, match=text):
            check_graph(graph)


def test_a_list_value_is_not_written_as_a_link() -> None:
    assert literal([1, 2]) == {"__value__": [1, 2]}
    assert literal("x") == "x"


@given(st.text(min_size=1).filter(lambda text: "." not in text and "\\" not in text), st.text())
def test_a_target_can_name_any_input(node: str, name: str) -> None:
    assert Target.parse(f"{node}.{name}") == Target(node, name)


def test_a_dot_in_a_node_id_is_escaped() -> None:
    assert Target.parse(r"1\.0.a.b") == Target("1.0", "a.b")
