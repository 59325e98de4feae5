"""What workflow files may look like, and what is refused with one clear line."""

from __future__ import annotations

import json
from typing import Any

import pytest

NODE = {"inputs": {"text": "x"}, "class_type": "Show"}
GOOD = {"1": NODE}


def told(report: Any) -> str:
    return "\n".join(map(str, report.problems))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{\n  "1": {,}\n}', "bad.json: line 2, column 9: "),
        ('{"nodes": [], "links": []}', "bad.json: this is the format that ComfyUI saves"),
        ('{"prompt": {"nodes": [{"id": 1}], "links": []}}', "bad.json: this is the format"),
        ("[]", "bad.json: a JSON object is expected"),
        ("{}", "bad.json: there is no node in it"),
        ('{"version": 1}', "bad.json: there is no node in it"),
        (b"\xff\xfa\x00", "bad.json: is no text"),
        ('{"1": null}', "bad.json: node 1: an object is expected"),
        ('{"1": {"class_type": 7, "inputs": {}}}', "bad.json: node 1: class_type is no text"),
        ('{"1": {"class_type": "A"}}', "bad.json: node 1: inputs is no object"),
        ('{"1": {"class_type": "A", "inputs": null}}', "bad.json: node 1: inputs is no object"),
        ('{"1": {"class_type": "A", "inputs": []}}', "bad.json: node 1: inputs is no object"),
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
            "bad.json: the key '1' comes twice",
        ),
        ("[" * 100_000, "bad.json: cannot be read as JSON"),
        ('{"1": {"class_type": "A", "inputs": {"x": ' + "9" * 5000 + "}}}", "cannot be read"),
    ],
)
def test_a_bad_file_is_one_line_and_the_others_are_generated(
    folder: Any, content: str | bytes, reason: str
) -> None:
    made = folder({"bad.json": GOOD, "good.json": GOOD})
    made.generate()
    before = made.files()
    made.write({"bad.json": content, "good.json": {"1": NODE, "2": NODE}})
    report = made.generate()
    assert reason in told(report)
    assert len(report.errors) == 1
    assert [outcome.state for outcome in report.outcomes] == ["failed", "written"]
    after = made.files()
    assert after["bad.py"] == before["bad.py"]
    assert after["bad.json"] == before["bad.json"]
    assert after["good.py"] != before["good.py"]
    assert b"BadWorkflow" in after["__init__.py"]


def test_a_bad_file_that_was_never_good_leaves_nothing(folder: Any) -> None:
    made = folder({"bad.json": "{", "good.json": GOOD})
    made.generate()
    assert not {"bad.py", "bad.json"} & set(made.files())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_and_ends_of_line(made: Any, folder: Any, encoding: str) -> None:
    graph = {"1": {**NODE, "_meta": {"title": "图像"}}}
    text = json.dumps(graph, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    report, package = made({"a.json": text.encode(encoding)})
    assert not report.errors
    assert package.AWorkflow.template_graph() == graph
    plain = folder({"a.json": json.dumps(graph, ensure_ascii=False, indent=1)})
    plain.generate()
    assert b"sha256" in plain.files()["a.py"]


@pytest.mark.parametrize(
    "body", [{"prompt": GOOD, "client_id": "x"}, {"input": {"workflow": GOOD}}, {"workflow": GOOD}]
)
def test_request_bodies_are_unpacked(made: Any, body: object) -> None:
    _, package = made({"a.json": body})
    assert package.AWorkflow().to_graph() == GOOD


def test_extra_keys_stay_and_foreign_ones_are_left_out(made: Any) -> None:
    graph = {"1": {**NODE, "is_changed": ["x"], "_meta": None}}
    report, package = made({"a.json": {**graph, "extra_data": {"x": 1}, "version": 0.4}})
    assert package.AWorkflow().to_graph() == graph
    assert "the key 'extra_data' is no node and is left out" in told(report)
    assert "the key 'version'" in told(report)


def test_nan_outside_inputs_is_tolerated(made: Any) -> None:
    text = '{"1": {"inputs": {}, "class_type": "A", "is_changed": [NaN]}}'
    report, package = made({"a.json": text})
    assert not report.errors
    assert package.AWorkflow().to_graph()["1"]["is_changed"] == [None]


def test_a_dangling_link_warns(made: Any) -> None:
    report, _ = made({"a.json": {"1": {"inputs": {"x": ["9", 0]}, "class_type": "A"}}})
    assert "node 1: input 'x' links to node '9', which is not there" in told(report)
    assert not report.errors


def test_a_missing_required_input_warns(made: Any) -> None:
    schema = {"Show": {"input": {"required": {"text": ["STRING"], "model": ["MODEL"]}}}}
    report, _ = made({"a.json": GOOD, "object_info.json": schema})
    assert "Show requires an input 'model', which is not set" in told(report)


def test_two_files_of_one_name_are_refused_and_both_named(folder: Any) -> None:
    made = folder({"a b.json": GOOD, "A_b.json": GOOD, "c.json": GOOD})
    report = made.generate()
    (problem,) = report.errors
    assert "A_b.json: a b.json would be the module 'a_b' too" in str(problem)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "failed", "written"]


def test_an_empty_folder_and_broken_schemas_write_nothing(folder: Any) -> None:
    made = folder({})
    assert "no workflow file" in told(made.generate())
    made.write({"a.json": GOOD, "object_info.json": "{"})
    report = made.generate()
    assert "object_info.json: line 1" in told(report)
    assert not made.out.exists()


@pytest.mark.parametrize("key", ["class", "command"])
def test_two_bindings_of_one_name_are_refused(folder: Any, key: str) -> None:
    name = {"class": "Same", "command": "same"}[key]
    binding = f"{key} = {name!r}\n"
    made = folder({"a.json": GOOD, "a.toml": binding, "b.json": GOOD, "b.toml": binding})
    report = made.generate()
    assert f"a.json: b.json would be the {key} 'Same" in told(report) or key == "command"
    assert {outcome.state for outcome in report.outcomes} == {"failed"}
    assert len(report.errors) == 1
    assert not made.out.exists()
