"""The FLUX mesh workflow: its public names, and a later revision with another binding."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    problem_text,
)
from comfyloom.errors import InputValueError
from comfyloom_workflows import FluxMeshResult, FluxMeshWorkflow

ROOT = Path(__file__).parents[2]

INPUTS = {
    "input_image": ("image", True, None, None, [("16", "image")]),
    "prompt": ("text", True, None, None, [("34", "clip_l"), ("34", "t5xxl")]),
    "negative_prompt": ("text", False, None, None, [("19", "clip_l"), ("19", "t5xxl")]),
    "seed": ("seed", False, 0, 2**64 - 1, [("3", "noise_seed"), ("32", "seed")]),
    "guidance": ("number", False, 0, 100, [("34", "guidance")]),
    "control_strength": ("number", False, 0, 10, [("14", "strength")]),
    "steps": ("integer", False, 1, 100, [("3", "steps")]),
    "width": ("integer", False, 16, 16384, [("6", "width")]),
    "height": ("integer", False, 16, 16384, [("6", "height")]),
    "mesh_steps": ("integer", False, 3, 1024, [("32", "steps")]),
    "mesh_cfg_scale": ("number", False, 1, 20, [("32", "cfg_scale")]),
    "mesh_grid_resolution": ("integer", False, 128, 2048, [("32", "grid_res")]),
    "mesh_target_faces": ("integer", False, 1000, 2147483647, [("32", "target_num_faces")]),
    "mesh_simplify": ("flag", False, None, None, [("32", "simplify_mesh")]),
}


def public_inputs(workflow: Any) -> dict[str, Any]:
    return {
        spec.name: (
            spec.kind,
            spec.required,
            spec.ge,
            spec.le,
            [(target.node, target.input) for target in spec.targets],
        )
        for spec in workflow.__workflow__.inputs
    }


def test_public_names_kinds_ranges_and_targets_are_stable() -> None:
    assert public_inputs(FluxMeshWorkflow) == INPUTS


def test_results_and_stages_are_complete() -> None:
    spec = FluxMeshWorkflow.__workflow__
    assert spec.result is FluxMeshResult
    assert [(o.name, o.kind, o.node, o.key, o.file) for o in spec.outputs] == [
        ("image", "image", "24", "images", "flux.png"),
        ("mesh", "mesh", "33", "3d", "partpacker_result_0.glb"),
    ]
    assert spec.command == "flux-mesh"
    assert sum(stage.share for stage in spec.stages) == 100
    assert {node for stage in spec.stages for node in stage.nodes} == set(
        FluxMeshWorkflow.template_graph()
    )


def test_values_reach_their_nodes() -> None:
    seed = 2**40 + 5
    graph = FluxMeshWorkflow(input_image="a.png", prompt="x", seed=seed, mesh_steps=9).to_graph()
    assert graph["34"]["inputs"]["clip_l"] == graph["34"]["inputs"]["t5xxl"] == "x"
    assert graph["3"]["inputs"]["noise_seed"] == seed
    assert graph["32"]["inputs"]["seed"] == seed % 2**31
    assert graph["32"]["inputs"]["steps"] == 9


def test_the_values_of_the_file_reproduce_its_graph() -> None:
    file = json.loads((ROOT / "workflows/generate_flux_mesh.json").read_text("utf-8"))
    prompt = file["34"]["inputs"]["clip_l"]
    graph = FluxMeshWorkflow(input_image="render.png", prompt=prompt).to_graph()
    assert json.dumps(graph) == json.dumps(file)


def test_the_constructor_requires_inputs_and_a_chain_may_add_them_later() -> None:
    with pytest.raises(InputValueError, match="input_image"):
        FluxMeshWorkflow(prompt="x")  # type: ignore[call-arg]
    chain = FluxMeshWorkflow.with_prompt("x").with_steps(3)
    with pytest.raises(InputValueError, match="input_image"):
        chain.to_graph()
    assert chain.with_input_image(b"").steps == 3


def test_each_field_has_a_method_whose_docstring_has_range_and_default() -> None:
    for field in attrs.fields(FluxMeshWorkflow):
        assert inspect.getdoc(getattr(FluxMeshWorkflow, f"with_{field.name}"))
    assert FluxMeshWorkflow.with_guidance.__doc__ == (
        "How closely the picture follows the prompt: 0 to 100, default 4.7."
    )


def revised() -> tuple[dict[str, Any], str]:
    """Return the later revision, which feeds values through primitive nodes, and its binding."""
    graph = json.loads((ROOT / "workflows/generate_flux_mesh.json").read_text("utf-8"))
    moves = {
        "40": ("PrimitiveStringMultiline", "FLUXCLIP", "34", "clip_l"),
        "41": ("PrimitiveStringMultiline", "FLUXT5XXL", "34", "t5xxl"),
        "42": ("PrimitiveInt", "NOISESEED", "3", "noise_seed"),
        "43": ("PrimitiveInt", "STEPSPARTPACKER", "32", "steps"),
        "44": ("PrimitiveInt", "STEPSFLUX", "3", "steps"),
    }
    for node, (class_type, title, target, name) in moves.items():
        value = graph[target]["inputs"][name]
        meta = {"title": title}
        graph[node] = {"inputs": {"value": value}, "class_type": class_type, "_meta": meta}
        graph[target]["inputs"][name] = [node, 0]
    binding = (ROOT / "workflows/generate_flux_mesh.toml").read_text("utf-8")
    for old, new in (
        ('"POSITIVECLIP.clip_l", "POSITIVECLIP.t5xxl"', '"FLUXCLIP.value", "FLUXT5XXL.value"'),
        ('to = ["XlabsSampler.noise_seed"', 'to = ["NOISESEED.value"'),
        (
            'to = ["XlabsSampler.steps"]',
            'kind = "integer"\nge = 1\nle = 100\nto = ["STEPSFLUX.value"]',
        ),
        (
            'to = ["PartPacker_Sampler.steps"]',
            'kind = "integer"\nge = 3\nle = 1024\nto = ["STEPSPARTPACKER.value"]',
        ),
    ):
        assert old in binding
        binding = binding.replace(old, new)
    return graph, binding


def test_the_later_revision_needs_only_another_binding(generate_package: GeneratePackage) -> None:
    graph, binding = revised()
    schemas = (ROOT / "workflows/object_info.json").read_text("utf-8")
    files = {"flux.json": graph, "flux.toml": binding, "object_info.json": schemas}
    report, package = generate_package(files)
    assert not report.problems
    workflow = package.FluxMeshWorkflow
    without_targets = {name: facts[:4] for name, facts in public_inputs(workflow).items()}
    assert without_targets == {name: facts[:4] for name, facts in INPUTS.items()}
    sent = workflow(input_image="a.png", prompt="p", seed=2**33 + 1, steps=2).to_graph()
    assert sent["40"]["inputs"]["value"] == sent["41"]["inputs"]["value"] == "p"
    assert sent["42"]["inputs"]["value"] == 2**33 + 1
    assert sent["32"]["inputs"]["seed"] == 1
    assert sent["34"]["inputs"]["clip_l"] == ["40", 0]


def test_errors_of_the_first_binding_show_what_the_revision_changed(
    make_workspace: MakeWorkspace,
) -> None:
    graph, _ = revised()
    binding = (ROOT / "workflows/generate_flux_mesh.toml").read_text("utf-8")
    report = make_workspace({"flux.json": graph, "flux.toml": binding}).generate()
    problems = problem_text(report)
    assert "inputs.steps: its input is linked" in problems
    assert "PrimitiveStringMultiline, 'FLUXCLIP'" in problems
