"""`comfyloom codegen inspect` shows nodes, names and hazards."""

from __future__ import annotations

import json

from codegen.command import run
from codegen.samples import FLUX
from codegen.workspace import MakeWorkspace
from ugly import UGLY, node


def test_inspect_shows_nodes_inputs_links_and_names() -> None:
    output = run("inspect", FLUX).output
    lines = output.splitlines()
    (prompt,) = [line for line in lines if "POSITIVECLIP" in line]
    assert prompt.split()[:4] == ["34", "CLIPTextEncodeFlux", "POSITIVECLIP", "clip_l"]
    assert prompt.endswith(" prompt")
    assert any(line.strip().startswith("model") and "← 10:0" in line for line in lines)
    assert "generate_flux_mesh.json: 18 nodes → FluxMeshWorkflow" in output


def test_inspect_reports_hazards(make_workspace: MakeWorkspace) -> None:
    graph = {
        **UGLY["duplicate titles"],
        "20": node("Seed", seed=2**60, upload="x"),
        "21": node("A", x=["22", 0]),
        "22": node("A", x=["21", 0]),
    }
    workspace = make_workspace({"a.json": graph})
    found = json.loads(run("inspect", workspace.workflows / "a.json", "--json").output)
    hazards = "\n".join(found["hazards"])
    for expected in (
        "2 nodes share the title 'Save Image'",
        "nodes 21 → 22 → 21 form a cycle",
        "node 21 (A) is not used by any output node",
        "node 20: input 'seed' is above 2^53",
        "node 20: input 'upload' only holds state of ComfyUI's web UI",
        "no node schemas are pinned",
    ):
        assert expected in hazards
    assert found["nodes"][0]["inputs"][0] == {
        "name": "text",
        "value": "a",
        "link": "",
        "public": "clip_text_encode_prompt_6_text",
    }


def test_inspect_checks_values_against_the_schemas(make_workspace: MakeWorkspace) -> None:
    graph = {"1": node("K", steps=500, mode="fats", model=["2", 1]), "2": node("M")}
    inputs = {
        "steps": ["INT", {"max": 100}],
        "mode": [["fast", "slow"]],
        "model": ["MODEL"],
        "more": ["INT"],
    }
    schemas = {
        "K": {"input": {"required": inputs}, "output_node": True},
        "M": {"output": ["MODEL", "CLIP"]},
    }
    workspace = make_workspace({"a.json": graph, "object_info.json": schemas})
    output = run("inspect", workspace.workflows / "a.json").output
    assert "! node 1 (K), steps: 500 is more than 100" in output
    assert "! node 1 (K), mode: 'fats' is not one of fast, slow; did you mean 'fast'?" in output
    assert "! node 1 (K), model: it takes MODEL, but node 2 gives CLIP" in output
    assert "! node 1 (K), more: the server requires this input" in output
    graph["3"] = node("NotPinned", x=["1", 0])
    workspace.write({"a.json": graph})
    output = run("inspect", workspace.workflows / "a.json").output
    assert "! not pinned, types are guessed: NotPinned (comfyloom codegen schemas)" in output


def test_terminal_control_sequences_are_escaped(make_workspace: MakeWorkspace) -> None:
    evil = "\x1b[2J\x1b]0;x\x07"
    graph = {"1": {"inputs": {evil: evil}, "class_type": evil, "_meta": {"title": f"{evil}t"}}}
    workspace = make_workspace({"a.json": graph})
    inspected = run("inspect", workspace.workflows / "a.json")
    generated = run("--workflows", workspace.workflows, "--out", workspace.out)
    for done in (inspected, generated):
        assert "\x1b" not in done.output
