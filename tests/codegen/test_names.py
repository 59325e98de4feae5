"""Names: legal, distinct, bounded, and by a rule of each node itself."""

from __future__ import annotations

import keyword
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyloom import Result, Workflow
from comfyloom_codegen.names import (
    RESULT_NAMES,
    WIDEST,
    WORKFLOW_NAMES,
    ClassName,
    PythonName,
    class_stem,
    distinct,
    kebab,
    python_name,
    snake,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CLIP Text Encode (Prompt)", "clip_text_encode_prompt"),
        ("DualCLIPLoader", "dual_clip_loader"),
        ("PartPacker_Loader", "part_packer_loader"),
        ("RemBGSession+", "rem_bg_session_plus"),
        ("LoRALoader", "lora_loader"),
        ("UNet加载器", "unet加载器"),
        ("Load LoRAs", "load_loras"),
        ("CN-", "cn_minus"),
        ("🔧 RemBG Session", "rem_bg_session"),
        ("Decodificación VAE", "decodificación_vae"),
        ("\uff26\uff35\uff2c\uff2c", "full"),
        ("图像 输入", "图像_输入"),
        ("4x upscale", "node_4x_upscale"),
        ("for", "for_"),
        ("self", "self_"),
        ("with prompt", "node_with_prompt"),
        ("to_graph", "to_graph_"),
        ("inputs", "inputs_"),
        ("🔧", "node"),
    ],
)
def test_names_of_titles(text: str, name: str) -> None:
    assert python_name(text, reserved=WORKFLOW_NAMES) == name


@pytest.mark.parametrize(
    ("stem", "cls", "command"),
    [
        ("workflow_api (4)", "WorkflowApi4", "workflow-api-4"),
        ("generate_flux_mesh", "GenerateFluxMesh", "generate-flux-mesh"),
        ("图像", "图像", "图像"),
        ("3d", "The3d", "3d"),
        ("()", "The", "workflow"),
    ],
)
def test_names_of_files(stem: str, cls: str, command: str) -> None:
    assert class_stem(stem) == cls
    assert kebab(stem) == command


@pytest.mark.parametrize("text", ["", "1a", "a b", "class", "_x", "ﬁ", "x" * 99])
def test_an_illegal_name_cannot_be_made(text: str) -> None:
    with pytest.raises(ValueError, match=r"is|begins"):
        PythonName(text)
    with pytest.raises(ValueError, match=r"is|begins"):
        ClassName(text)


def test_reserved_names_cover_the_base_classes() -> None:
    public = {name for name in dir(Workflow) if not name.startswith("_")}
    assert public <= WORKFLOW_NAMES
    assert {name for name in dir(Result) if not name.startswith("_")} <= RESULT_NAMES


@given(st.text())
def test_any_text_gives_a_legal_name(text: str) -> None:
    name = python_name(text, reserved=WORKFLOW_NAMES)
    assert name.isidentifier()
    assert not keyword.iskeyword(name)
    assert not name.startswith("_")
    assert name not in WORKFLOW_NAMES
    assert len(snake(text)) <= 60
    assert ClassName(f"{class_stem(text)}Workflow").isidentifier()


@given(st.lists(st.tuples(*[st.sampled_from(["a", "b", "a_1", "b_1"])] * 3), max_size=8))
def test_distinct_names_are_distinct_and_do_not_depend_on_order(ladders: list[Any]) -> None:
    names = distinct(ladders)
    assert len(set(names)) == len(names)
    unique = list(dict.fromkeys(ladders))
    there, back = distinct(unique), distinct(unique[::-1])
    if len({ladder[2] for ladder in unique}) == len(unique):
        assert len(set(there)) == len(set(back))


def fields(package: Any) -> list[str]:
    return [spec.name for spec in package.AWorkflow.__workflow__.inputs]


def node(title: str | None, *names: str, class_type: str = "Thing") -> dict[str, Any]:
    made: dict[str, Any] = {"inputs": dict.fromkeys(names, "v"), "class_type": class_type}
    return made if title is None else {**made, "_meta": {"title": title}}


@pytest.mark.parametrize(
    ("graph", "names"),
    [
        ({"1": node(None, "x")}, ["thing_x"]),
        ({"1": node("🔧", "x")}, ["thing_x"]),
        ({"1": node("A", "x"), "2": node("a", "x")}, ["a_1_x", "a_2_x"]),
        ({"1": node("A", "x"), "2": node("B", "x")}, ["a_x", "b_x"]),
        ({"1": node("CN+", "x"), "2": node("CN-", "x")}, ["cn_plus_x", "cn_minus_x"]),
        ({"1": node("A", "a.b", "a_b", "a b")}, ["a_1_a_b_1", "a_1_a_b_2", "a_1_a_b_3"]),
        ({"1": node("A", "b_c"), "2": node("A b", "c")}, ["a_1_b_c", "a_b_2_c"]),
        ({"65:33:11": node("A", "*"), "012": node("A", "1")}, ["a_65_33_11_input", "a_012_1"]),
        ({"word": node("A", "class", "in")}, ["a_class", "a_in"]),
        ({"1": node("with A", "x"), "2": node("A", "x")}, ["node_with_a_x", "a_x"]),
        ({"1": node("long " * 30, "x")}, ["long_long_long_long_long_long_lo_x"]),
        ({"1": node("A", "x", "upload", "choose file to upload")}, ["a_x"]),
    ],
)
def test_fields_of_nodes(made: Any, graph: dict[str, Any], names: list[str]) -> None:
    _, package = made({"a.json": graph})
    assert fields(package) == names
    assert package.AWorkflow().to_graph() == graph


def test_an_unrelated_node_renames_nothing_and_a_namesake_both(made: Any) -> None:
    graph = {"1": node("A", "x"), "2": node("B", "x")}
    _, more = made({"a.json": {**graph, "3": node("C", "x")}})
    assert fields(more) == ["a_x", "b_x", "c_x"]
    _, namesake = made({"a.json": {**graph, "3": node("B", "x")}})
    assert fields(namesake) == ["a_x", "b_2_x", "b_3_x"]


def test_results_of_one_title_are_told_apart(made: Any) -> None:
    ends = {n: node("Save", class_type="SaveImage") for n in ("8", "9")}
    _, package = made({"a.json": ends})
    specs = package.AWorkflow.__workflow__.outputs
    assert [(spec.name, spec.file) for spec in specs] == [
        ("save_8", "save_8.png"),
        ("save_9", "save_9.png"),
    ]


def test_numbered_names_are_bounded_too(made: Any) -> None:
    long = "very_" * 12
    names = distinct([("x" * WIDEST,)] * 12)
    assert len(set(names)) == 12
    assert max(map(len, names)) == WIDEST
    graph = {"1": node("0" * 80, f"{long}a", f"{long}b", f"{long}c")}
    _, package = made({"a.json": graph})
    assert len(fields(package)) == 3
    assert package.AWorkflow().to_graph() == graph
