"""Names are legal, distinct, of limited length, and derived from each node alone."""

from __future__ import annotations

import keyword
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.workspace import (
    GeneratePackage,
    input_specs,
)
from comfyloom import Result, Workflow
from comfyloom_codegen.names import (
    MAX_LENGTH,
    RESULT_NAMES,
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
def test_titles_give_names(text: str, name: str) -> None:
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
def test_file_names_give_class_and_command_names(stem: str, cls: str, command: str) -> None:
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
def test_distinct_names_are_distinct_and_do_not_depend_on_order(candidates: list[Any]) -> None:
    names = distinct(candidates)
    assert len(set(names)) == len(names)
    unique = list(dict.fromkeys(candidates))
    forward, backward = distinct(unique), distinct(unique[::-1])
    if len({candidate[2] for candidate in unique}) == len(unique):
        assert len(set(forward)) == len(set(backward))


def titled_node(title: str | None, *names: str, class_type: str = "Thing") -> dict[str, Any]:
    entry: dict[str, Any] = {"inputs": dict.fromkeys(names, "v"), "class_type": class_type}
    return entry if title is None else {**entry, "_meta": {"title": title}}


@pytest.mark.parametrize(
    ("graph", "names"),
    [
        ({"1": titled_node(None, "x")}, ["thing_x"]),
        ({"1": titled_node("🔧", "x")}, ["thing_x"]),
        ({"1": titled_node("A", "x"), "2": titled_node("a", "x")}, ["a_1_x", "a_2_x"]),
        ({"1": titled_node("A", "x"), "2": titled_node("B", "x")}, ["a_x", "b_x"]),
        ({"1": titled_node("CN+", "x"), "2": titled_node("CN-", "x")}, ["cn_plus_x", "cn_minus_x"]),
        ({"1": titled_node("A", "a.b", "a_b", "a b")}, ["a_1_a_b_1", "a_1_a_b_2", "a_1_a_b_3"]),
        ({"1": titled_node("A", "b_c"), "2": titled_node("A b", "c")}, ["a_1_b_c", "a_b_2_c"]),
        (
            {"65:33:11": titled_node("A", "*"), "012": titled_node("A", "1")},
            ["a_65_33_11_input", "a_012_1"],
        ),
        ({"word": titled_node("A", "class", "in")}, ["a_class", "a_in"]),
        ({"1": titled_node("with A", "x"), "2": titled_node("A", "x")}, ["node_with_a_x", "a_x"]),
        ({"1": titled_node("long " * 30, "x")}, ["long_long_long_long_long_long_lo_x"]),
        ({"1": titled_node("A", "x", "upload", "choose file to upload")}, ["a_x"]),
    ],
)
def test_nodes_give_field_names(
    generate_package: GeneratePackage, graph: dict[str, Any], names: list[str]
) -> None:
    _, package = generate_package({"a.json": graph})
    assert list(input_specs(package)) == names
    assert package.AWorkflow().to_graph() == graph


def test_an_unrelated_node_renames_nothing_and_the_same_title_renames_both(
    generate_package: GeneratePackage,
) -> None:
    graph = {"1": titled_node("A", "x"), "2": titled_node("B", "x")}
    _, more = generate_package({"a.json": {**graph, "3": titled_node("C", "x")}})
    assert list(input_specs(more)) == ["a_x", "b_x", "c_x"]
    _, same_title = generate_package({"a.json": {**graph, "3": titled_node("B", "x")}})
    assert list(input_specs(same_title)) == ["a_x", "b_2_x", "b_3_x"]


def test_results_of_the_same_title_are_distinct(generate_package: GeneratePackage) -> None:
    ends = {n: titled_node("Save", class_type="SaveImage") for n in ("8", "9")}
    _, package = generate_package({"a.json": ends})
    specs = package.AWorkflow.__workflow__.outputs
    assert [(spec.name, spec.file) for spec in specs] == [
        ("save_8", "save_8.png"),
        ("save_9", "save_9.png"),
    ]


def test_numbered_names_have_a_maximum_length(generate_package: GeneratePackage) -> None:
    long = "very_" * 12
    names = distinct([("x" * MAX_LENGTH,)] * 12)
    assert len(set(names)) == 12
    assert max(map(len, names)) == MAX_LENGTH
    graph = {"1": titled_node("0" * 80, f"{long}a", f"{long}b", f"{long}c")}
    _, package = generate_package({"a.json": graph})
    assert len(input_specs(package)) == 3
    assert package.AWorkflow().to_graph() == graph
