"""The accepted forms of workflow files, and the errors for all others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    problem_text,
)

NODE: dict[str, Any] = {"inputs": {"text": "x"}, "class_type": "Show"}
SHOW = {"1": NODE}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{\n  "1": {,}\n}', "bad.json: line 2, column 9: "),
        ('{"nodes": [], "links": []}', "bad.json: this is the format of ComfyUI's web UI"),
        ('{"prompt": {"nodes": [{"id": 1}], "links": []}}', "bad.json: this is the format"),
        ("[]", "bad.json: expected a JSON object"),
        ("{}", "bad.json: it contains no nodes"),
        ('{"version": 1}', "bad.json: it contains no nodes"),
        (b"\xff\xfa\x00", "bad.json: is not text"),
        ('{"1": null}', "bad.json: node 1: expected an object"),
        ('{"1": {"class_type": 7, "inputs": {}}}', "bad.json: node 1: class_type is not a string"),
        ('{"1": {"class_type": "A"}}', "bad.json: node 1: inputs is not an object"),
        ('{"1": {"class_type": "A", "inputs": null}}', "bad.json: node 1: inputs is not an object"),
        ('{"1": {"class_type": "A", "inputs": []}}', "bad.json: node 1: inputs is not an object"),
        (
            '{"1": {"class_type": "A", "inputs": {"x": [NaN]}}}',
            "bad.json: node 1: input 'x' holds NaN",
        ),
        (
            '{"1": {"class_type": "A", "inputs": {"x": 1e999}}}',
            "bad.json: node 1: input 'x' holds NaN or an infinite number",
        ),
        (
            '{"1": {"class_type": "A", "inputs": {}}, "1": {"class_type": "B", "inputs": {}}}',
            "bad.json: the key '1' occurs twice",
        ),
        ("[" * 100_000, "bad.json: cannot be read as JSON"),
        ('{"1": {"class_type": "A", "inputs": {"x": ' + "9" * 5000 + "}}}", "cannot be read"),
    ],
)
def test_a_bad_file_is_reported_in_one_line_and_other_files_generate(
    make_workspace: MakeWorkspace, content: str | bytes, reason: str
) -> None:
    workspace = make_workspace({"bad.json": SHOW, "good.json": SHOW})
    workspace.generate()
    before = workspace.files()
    workspace.write({"bad.json": content, "good.json": {"1": NODE, "2": NODE}})
    report = workspace.generate()
    assert reason in problem_text(report)
    assert len(report.errors) == 1
    assert [outcome.state for outcome in report.outcomes] == ["failed", "written"]
    after = workspace.files()
    assert after["bad.py"] == before["bad.py"]
    assert after["bad.json"] == before["bad.json"]
    assert after["good.py"] != before["good.py"]
    assert b"BadWorkflow" in after["__init__.py"]


def test_a_bad_file_that_was_never_good_leaves_nothing(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"bad.json": "{", "good.json": SHOW})
    workspace.generate()
    assert not {"bad.py", "bad.json"} & set(workspace.files())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_and_line_endings_are_accepted(
    generate_package: GeneratePackage, make_workspace: MakeWorkspace, encoding: str
) -> None:
    graph = {"1": {**NODE, "_meta": {"title": "图像"}}}
    text = json.dumps(graph, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    report, package = generate_package({"a.json": text.encode(encoding)})
    assert not report.errors
    assert package.AWorkflow.template_graph() == graph
    plain = make_workspace({"a.json": json.dumps(graph, ensure_ascii=False, indent=1)})
    plain.generate()
    assert b"sha256" in plain.files()["a.py"]


@pytest.mark.parametrize(
    "body", [{"prompt": SHOW, "client_id": "x"}, {"input": {"workflow": SHOW}}, {"workflow": SHOW}]
)
def test_request_bodies_are_unpacked(generate_package: GeneratePackage, body: object) -> None:
    _, package = generate_package({"a.json": body})
    assert package.AWorkflow().to_graph() == SHOW


def test_extra_keys_of_nodes_are_kept_and_other_keys_left_out(
    generate_package: GeneratePackage,
) -> None:
    graph = {"1": {**NODE, "is_changed": ["x"], "_meta": None}}
    report, package = generate_package(
        {"a.json": {**graph, "extra_data": {"x": 1}, "version": 0.4}}
    )
    assert package.AWorkflow().to_graph() == graph
    assert "the key 'extra_data' is not a node and is left out" in problem_text(report)
    assert "the key 'version'" in problem_text(report)


def test_nan_outside_inputs_is_tolerated(generate_package: GeneratePackage) -> None:
    text = '{"1": {"inputs": {}, "class_type": "A", "is_changed": [NaN]}}'
    report, package = generate_package({"a.json": text})
    assert not report.errors
    assert package.AWorkflow().to_graph()["1"]["is_changed"] == [None]


def test_a_dangling_link_warns(generate_package: GeneratePackage) -> None:
    report, _ = generate_package({"a.json": {"1": {"inputs": {"x": ["9", 0]}, "class_type": "A"}}})
    assert "node 1: input 'x' links to node '9', which does not exist" in problem_text(report)
    assert not report.errors


def test_a_missing_required_input_warns(generate_package: GeneratePackage) -> None:
    schema = {"Show": {"input": {"required": {"text": ["STRING"], "model": ["MODEL"]}}}}
    report, _ = generate_package({"a.json": SHOW, "object_info.json": schema})
    assert "Show requires an input 'model', which is not set" in problem_text(report)


def test_two_files_of_the_same_module_name_are_refused_and_both_named(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a b.json": SHOW, "A_b.json": SHOW, "c.json": SHOW})
    report = workspace.generate()
    (problem,) = report.errors
    assert "A_b.json: a b.json would be the module 'a_b' too" in str(problem)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "failed", "written"]


def test_an_empty_folder_and_broken_schemas_write_nothing(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({})
    assert "no workflow file" in problem_text(workspace.generate())
    workspace.write({"a.json": SHOW, "object_info.json": "{"})
    report = workspace.generate()
    assert "object_info.json: line 1" in problem_text(report)
    assert not workspace.out.exists()


@pytest.mark.parametrize("key", ["class", "command"])
def test_two_bindings_of_the_same_class_or_command_are_refused(
    make_workspace: MakeWorkspace, key: str
) -> None:
    name = {"class": "Same", "command": "same"}[key]
    binding = f"{key} = {name!r}\n"
    workspace = make_workspace(
        {"a.json": SHOW, "a.toml": binding, "b.json": SHOW, "b.toml": binding}
    )
    report = workspace.generate()
    assert f"a.json: b.json would be the {key} 'Same" in problem_text(report) or key == "command"
    assert {outcome.state for outcome in report.outcomes} == {"failed"}
    assert len(report.errors) == 1
    assert not workspace.out.exists()
