"""Unusual workflow files: read without a loss, or refused with one clear line.

What such workflows do when they run is tested in tests/e2e/test_running_hazards.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.samples import SCHEMAS
from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    is_same_json,
    only_class,
    problem_text,
    workflow_classes,
)
from comfyloom_codegen.verifying import verify
from ugly import UGLY, node


@pytest.mark.parametrize("has_schemas", [False, True], ids=["guessed", "by schemas"])
def test_every_unusual_graph_generates_type_checks_and_is_reproduced(
    make_workspace: MakeWorkspace, has_schemas: bool
) -> None:
    pytest.importorskip("mypy")
    files: dict[str, object] = {f"{name}.json": graph for name, graph in UGLY.items()}
    workspace = make_workspace({**files, **({"object_info.json": SCHEMAS} if has_schemas else {})})
    report = workspace.generate()
    assert not report.errors, problem_text(report)
    verify(workspace.out, workspace.package)
    found = workflow_classes(workspace.module())
    assert len(found) == len(UGLY)
    for outcome in report.outcomes:
        cls = getattr(workspace.module(), outcome.workflow)
        assert is_same_json(cls().to_graph(), UGLY[outcome.file.removesuffix(".json")])
        for spec in cls.__workflow__.inputs:  # every field takes a value, by its method
            value = getattr(cls(), spec.name)
            given = "new.png" if spec.is_file else 7 if spec.kind == "seed" else value
            assert getattr(getattr(cls, f"with_{spec.name}")(given), spec.name) == given


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_the_bytes_do_not_depend_on_hash_seed_locale_or_directory(
    make_workspace: MakeWorkspace, tmp_path: Path, seed: str
) -> None:
    workspace = make_workspace({f"{name}.json": graph for name, graph in UGLY.items()})
    workspace.generate()
    code = "import sys; from comfyloom_codegen import generate; generate(*sys.argv[1:])"
    env = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": seed, "LC_ALL": "C"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", code, str(workspace.workflows), "here", workspace.package]
    subprocess.run(command, cwd=elsewhere, env=env, check=True, timeout=60)
    generated = elsewhere / "here" / workspace.package
    again = {path.name: path.read_bytes() for path in generated.iterdir() if path.is_file()}
    assert again == {
        name: text for name, text in workspace.files().items() if name != "__pycache__"
    }


def test_nan_is_tolerated_outside_inputs_and_refused_inside(make_workspace: MakeWorkspace) -> None:
    outside = '{"1": {"inputs": {}, "class_type": "A", "is_changed": [NaN]}}'
    inside = '{"7": {"inputs": {"cfg": Infinity}, "class_type": "A"}}'
    workspace = make_workspace({"outside.json": outside, "inside.json": inside})
    report = workspace.generate()
    assert [problem.file for problem in report.errors] == ["inside.json"]
    assert "inside.json: node 7: input 'cfg' holds NaN" in problem_text(report)


def test_unknown_keys_of_a_node_are_kept(generate_package: GeneratePackage) -> None:
    graph = {"1": {**node("A", x=1), "is_changed": ["z"], "pos": [1.5, 2], "mode": 4}}
    _, package = generate_package({"a.json": graph})
    assert is_same_json(only_class(package)().to_graph(), graph)


def test_keys_that_are_not_nodes_are_left_out_with_a_warning(
    generate_package: GeneratePackage,
) -> None:
    report, package = generate_package(
        {"a.json": {"1": node("A", x=1), "extra_data": {}, "last": 3}}
    )
    assert "the key 'extra_data' is not a node" in problem_text(report)
    assert "the key 'last' is not a node" in problem_text(report)
    assert list(only_class(package)().to_graph()) == ["1"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda graph: {"prompt": graph, "client_id": "x"},
        lambda graph: {"input": {"workflow": graph}},
        lambda graph: {"input": {"prompt": graph}},
        lambda graph: {"workflow": graph},
    ],
)
def test_request_bodies_are_unwrapped(generate_package: GeneratePackage, wrap: Any) -> None:
    graph = {"1": node("A", x=1)}
    report, package = generate_package({"a.json": wrap(graph)})
    assert not report.problems
    assert only_class(package)().to_graph() == graph


@pytest.mark.parametrize(
    "saved",
    [
        {"nodes": [], "links": [], "version": 0.4},
        {"id": "x", "nodes": [{"id": 1}], "links": [], "definitions": {"subgraphs": [{}]}},
        {"workflow": {"nodes": [{"id": 1}], "links": []}},
    ],
)
def test_the_format_of_the_web_ui_is_refused_in_one_line(
    make_workspace: MakeWorkspace, saved: object
) -> None:
    report = make_workspace({"a.json": saved}).generate()
    (problem,) = report.errors
    assert str(problem).startswith("a.json: this is the format of ComfyUI's web UI")
    assert "Export (API)" in str(problem)


def test_broken_json_is_reported_with_line_and_column_and_other_files_generate(
    make_workspace: MakeWorkspace,
) -> None:
    report = make_workspace(
        {"bad.json": '{"1":\n  oops}', "good.json": {"1": node("A")}}
    ).generate()
    assert "bad.json: line 2, column 3" in problem_text(report)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "written"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_byte_order_marks_line_endings_and_encodings_are_accepted(
    generate_package: GeneratePackage, encoding: str
) -> None:
    graph = {"1": node("A", "图像", text="x\r\ny")}
    text = json.dumps(graph, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    report, package = generate_package({"a.json": text.encode(encoding)})
    assert not report.errors
    assert only_class(package)().to_graph() == graph


def test_a_duplicate_key_is_an_error(make_workspace: MakeWorkspace) -> None:
    text = '{"1": {"inputs": {}, "class_type": "A"}, "1": {"inputs": {}, "class_type": "B"}}'
    report = make_workspace({"a.json": text}).generate()
    assert "a.json: the key '1' occurs twice" in problem_text(report)
    assert report.errors


def test_an_empty_graph_is_refused_and_one_without_output_warns(
    make_workspace: MakeWorkspace,
) -> None:
    no_end = {"1": node("KSampler", seed=1, steps=2, model=["1", 0])}
    workspace = make_workspace(
        {"empty.json": {}, "endless.json": no_end, "object_info.json": SCHEMAS}
    )
    report = workspace.generate()
    assert "empty.json: it contains no nodes" in problem_text(report)
    assert "warning: endless.json: no node gives a result" in problem_text(report)


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_type": "A"},
        {"class_type": "A", "inputs": None},
        {"class_type": "A", "inputs": []},
        {"class_type": 7, "inputs": {}},
        {"class_type": "", "inputs": {}},
        None,
        "text",
    ],
)
def test_a_malformed_node_is_named(make_workspace: MakeWorkspace, wrong: object) -> None:
    report = make_workspace({"a.json": {"1": node("A"), "65:3": wrong}}).generate()
    (problem,) = report.errors
    assert (problem.file, problem.node) == ("a.json", "65:3")
