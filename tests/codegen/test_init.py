"""`comfyloom codegen init` writes an initial binding that generates."""

from __future__ import annotations

import tomllib

import pytest

from codegen.command import exit_code_of, run
from codegen.samples import FLUX
from codegen.workspace import (
    MakeWorkspace,
    problem_text,
)
from ugly import UGLY, named, node


def test_init_guesses_inputs_and_results(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"flux.json": FLUX.read_text("utf-8")})
    done = run("init", workspace.workflows / "flux.json")
    assert done.exit_code == 0
    assert "flux.toml written: 12 inputs, 2 results" in done.output
    assert not workspace.generate().problems
    cls = workspace.module().FluxWorkflow
    specs = {spec.name: spec for spec in cls.__workflow__.inputs}
    assert [name for name, spec in specs.items() if spec.required] == ["input_image", "prompt"]
    assert [to.input for to in specs["prompt"].targets] == ["clip_l", "t5xxl"]
    assert {to.node for to in specs["negative_prompt"].targets} == {"19"}
    assert {to.node for to in specs["seed"].targets} == {"3", "32"}
    assert [spec.name for spec in cls.__workflow__.outputs] == ["image", "mesh"]


def test_init_finds_prompts_behind_nodes_that_hold_texts(make_workspace: MakeWorkspace) -> None:
    graph = {
        "1": node("PrimitiveString", "WORDS", value="a cat"),
        "2": node("CLIPTextEncode", text=["1", 0]),
        "3": node("ControlNetApply", conditioning=["2", 0]),
        "4": node("ConditioningZeroOut", conditioning=["2", 0]),
        "5": node("KSampler", seed=1, steps=5, positive=["3", 0], negative=["4", 0]),
        "6": node("SaveImage", images=["5", 0]),
        "7": node("PreviewImage", images=["5", 0]),
    }
    workspace = make_workspace({"a.json": graph})
    text = run("init", workspace.workflows / "a.json", "--print").output
    assert 'to = ["WORDS.value"]' in text
    assert "negative_prompt" not in text  # zeroed conditioning has no prompt
    assert not (workspace.workflows / "a.toml").exists()
    assert list(tomllib.loads(text)["results"]) == ["image"]


def test_init_does_not_overwrite_without_force(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": UGLY["values"], "a.toml": 'class = "Mine"\n'})
    refused = run("init", workspace.workflows / "a.json")
    assert exit_code_of(refused) == 73
    assert "exists already" in str(refused.exception)
    assert (workspace.workflows / "a.toml").read_text("utf-8") == 'class = "Mine"\n'
    assert run("init", workspace.workflows / "a.json", "--force").exit_code == 0
    assert exit_code_of(run("init", workspace.workflows / "b.json")) == 66
    (workspace.workflows / "c.json").write_text('{"nodes": []}', "utf-8")
    assert exit_code_of(run("init", workspace.workflows / "c.json")) == 65


@pytest.mark.parametrize("name", UGLY)
def test_init_writes_a_binding_that_generates_for_any_graph(
    make_workspace: MakeWorkspace, name: str
) -> None:
    workspace = make_workspace({f"{name}.json": UGLY[name]})
    assert run("init", workspace.workflows / f"{name}.json").exit_code == 0
    report = workspace.generate()
    assert not report.errors, report.errors
    # What is commented out can be uncommented, all of it.
    path = workspace.workflows / f"{name}.toml"
    head, mark, more = path.read_text("utf-8").partition(" more ")
    lines = [line.removeprefix("# ") for line in more.splitlines()[1:]]
    path.write_text(f"{head}{mark}\n" + "\n".join(lines), "utf-8")
    report = workspace.generate()
    assert not report.errors, report.errors


@pytest.mark.parametrize("negative", ["3", "4"])
def test_init_handles_encoders_that_share_a_text(
    make_workspace: MakeWorkspace, negative: str
) -> None:
    graph = {
        "1": node("PrimitiveString", "WORDS", value="a cat"),
        "3": node("CLIPTextEncode", text=["1", 0]),
        "4": node("CLIPTextEncode", text=["1", 0]),
        "5": node("KSampler", seed=1, positive=["3", 0], negative=[negative, 0]),
        "6": node("KSampler", seed=1, positive=["4", 0], negative=["3", 0]),
        "7": node("SaveImage", images=["5", 0]),
    }
    workspace = make_workspace({"a.json": graph})
    assert run("init", workspace.workflows / "a.json").exit_code == 0
    report = workspace.generate()
    assert not report.errors, problem_text(report)


def test_a_value_outside_its_schema_warns_with_a_binding_too(make_workspace: MakeWorkspace) -> None:
    schemas = {"A": {"input": {"required": {"cfg": ["FLOAT", {"max": 100.0}]}}}}
    graph = {"1": named("A", {"cfg": 150, "": 1})}
    workspace = make_workspace({"a.json": graph, "object_info.json": schemas})
    assert run("init", workspace.workflows / "a.json").exit_code == 0
    report = workspace.generate()
    assert not report.errors, problem_text(report)
    reason = "the value violates its schema, but is kept: 150 is out of range (at most 100)"
    assert reason in problem_text(report)
    assert workspace.module().AWorkflow().to_graph() == graph
