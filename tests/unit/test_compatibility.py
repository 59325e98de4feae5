"""A workflow against what a server has: nodes, models, inputs."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from comfyloom._workflow.compatibility import Incompatibility, compare
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas, pinned
from comfyloom_workflows import FluxMeshWorkflow
from support import ROOT

LIVE: dict[str, Any] = json.loads((ROOT / "workflows" / "object_info.json").read_text("utf-8"))


def check(
    live: dict[str, Any],
    graph: dict[str, Any] | None = None,
    free: frozenset[tuple[str, str]] = frozenset(),
) -> list[Incompatibility]:
    given = FluxMeshWorkflow.template_graph() if graph is None else graph
    return compare(GraphView(given, Schemas(live)), Schemas(LIVE), free | {("16", "image")})


@pytest.fixture
def live() -> dict[str, Any]:
    return copy.deepcopy(LIVE)


def fatal(incompatibilities: list[Incompatibility]) -> list[Incompatibility]:
    return [incompatibility for incompatibility in incompatibilities if incompatibility.is_fatal]


def test_the_server_it_was_generated_against_is_compatible(live: dict[str, Any]) -> None:
    assert fatal(check(live)) == []


def test_the_generated_package_holds_the_schemas_it_was_generated_against() -> None:
    carried = pinned("comfyloom_workflows")
    used = {str(entry["class_type"]) for entry in FluxMeshWorkflow.template_graph().values()}
    assert set(carried.names) == used
    assert pinned("no.such.package").names == ()


@pytest.mark.parametrize(
    ("missing", "pack"),
    [
        ("XlabsSampler", "x-flux-comfyui"),
        ("PartPacker_Sampler", "ComfyUI_PartPacker"),
        ("ImageRemoveBackground+", "ComfyUI_essentials"),
        ("DepthAnythingPreprocessor", "comfyui_controlnet_aux"),
    ],
)
def test_a_missing_node_type_is_reported_with_its_pack(
    live: dict[str, Any], missing: str, pack: str
) -> None:
    del live[missing]
    found = fatal(check(live))
    assert {incompatibility.class_type for incompatibility in found} == {missing}
    assert found[0].kind == "node"
    assert pack in found[0].advice


def test_the_pack_named_by_the_server_is_preferred(live: dict[str, Any]) -> None:
    before = copy.deepcopy(live)
    before["XlabsSampler"]["python_module"] = "custom_nodes.my_fork.nodes"
    del live["XlabsSampler"]
    graph = FluxMeshWorkflow.template_graph()
    found = compare(GraphView(graph, Schemas(live)), Schemas(before), frozenset())
    assert "my_fork" in next(each for each in found if each.kind == "node").advice


def combo(live: dict[str, Any], class_type: str, name: str, options: list[str]) -> None:
    live[class_type]["input"]["required"][name][0] = options


def test_a_missing_model_is_reported_with_the_nearest_one(live: dict[str, Any]) -> None:
    graph = FluxMeshWorkflow.template_graph()
    (node,) = [key for key, entry in graph.items() if entry["class_type"] == "UNETLoader"]
    wanted = str(graph[node]["inputs"]["unet_name"])
    near = wanted.replace(".safetensors", "-fp8.safetensors")
    combo(live, "UNETLoader", "unet_name", ["other.safetensors", near])
    (found,) = fatal(check(live))
    assert (found.kind, found.node, found.input) == ("model", node, "unet_name")
    assert wanted in found.message
    assert near in found.message
    assert "model file" in found.advice


def test_the_combo_format_of_newer_servers_is_read(live: dict[str, Any]) -> None:
    entry = live["UNETLoader"]["input"]["required"]["unet_name"]
    options = entry[0]
    live["UNETLoader"]["input"]["required"]["unet_name"] = ["COMBO", {"options": options}]
    assert fatal(check(live)) == []
    live["UNETLoader"]["input"]["required"]["unet_name"] = ["COMBO", {"options": ["x.gguf"]}]
    assert fatal(check(live))[0].kind == "model"


def test_a_choice_list_missing_on_the_server_is_not_an_incompatibility(
    live: dict[str, Any],
) -> None:
    remote = {"remote": {"route": "/models"}}
    live["UNETLoader"]["input"]["required"]["unet_name"] = ["COMBO", remote]
    assert fatal(check(live)) == []


def test_a_removed_choice_is_reported(live: dict[str, Any]) -> None:
    graph = FluxMeshWorkflow.template_graph()
    (node,) = [key for key, entry in graph.items() if entry["class_type"] == "DualCLIPLoader"]
    kind = graph[node]["inputs"]["type"]
    combo(live, "DualCLIPLoader", "type", ["sdxl", f"{kind}2"])
    (found,) = fatal(check(live))
    assert (found.kind, found.input) == ("choice", "type")
    assert f"'{kind}2'" in found.message


def test_a_new_required_input_is_reported(live: dict[str, Any]) -> None:
    live["XlabsSampler"]["input"]["required"]["sigma"] = ["FLOAT", {"default": 1.0}]
    (found,) = fatal(check(live))
    assert (found.kind, found.input) == ("input", "sigma")
    assert "codegen" in found.advice


def test_a_new_optional_input_is_compatible(live: dict[str, Any]) -> None:
    live["XlabsSampler"]["input"].setdefault("optional", {})["sigma"] = ["FLOAT", {}]
    assert fatal(check(live)) == []
    assert any(incompatibility.input == "sigma" for incompatibility in check(live))


def test_a_narrower_range_is_reported(live: dict[str, Any]) -> None:
    live["XlabsSampler"]["input"]["required"]["steps"][1]["max"] = 3
    found = check(live)
    (broken,) = fatal(found)
    assert (broken.kind, broken.input) == ("range", "steps")
    assert "more than 3" in broken.message
    assert any(
        incompatibility.kind == "changed" and "range" in incompatibility.message
        for incompatibility in found
    )


def test_a_value_set_by_the_caller_is_not_checked(live: dict[str, Any]) -> None:
    live["XlabsSampler"]["input"]["required"]["steps"][1]["max"] = 3
    assert fatal(check(live, free=frozenset({("3", "steps")}))) == []


def test_an_output_of_another_type_is_reported(live: dict[str, Any]) -> None:
    live["VAEDecode"]["output"] = ["VIDEO"]
    found = fatal(check(live))
    assert found
    assert all(incompatibility.kind == "type" for incompatibility in found)
    assert "gives VIDEO" in found[0].message


def test_a_removed_output_is_reported(live: dict[str, Any]) -> None:
    live["PartPacker_Sampler"]["output"] = live["PartPacker_Sampler"]["output"][:1]
    (found,) = fatal(check(live))
    assert "has no output 1: it has 1 (counted from 0)" in found.message


def test_union_types_are_compared_by_their_members(live: dict[str, Any]) -> None:
    live["VAEDecode"]["output"] = ["*"]
    live["SaveImage"]["input"]["required"]["images"][0] = "IMAGE,MASK"
    assert fatal(check(live)) == []


@pytest.mark.parametrize("odd", [None, [], "x", {"input": 3}, {"input": {"required": []}}])
def test_no_answer_of_a_server_raises(live: dict[str, Any], odd: Any) -> None:
    live["XlabsSampler"] = odd
    for incompatibility in check(live):
        assert str(incompatibility)
