"""Unusual values are kept exactly, and their types follow schemas and file."""

from __future__ import annotations

import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.samples import SCHEMAS
from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    input_specs,
    is_same_json,
    only_class,
    problem_text,
)
from comfyloom._workflow.run_values import draw_seeds, read_files
from ugly import UGLY, node


def test_large_integers_are_exact(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["values"]})
    sent = only_class(package)(seed_seed=2**64 - 1, seed_noise_seed=0).to_graph()
    assert sent["1"]["inputs"]["seed"] == 2**64 - 1
    assert sent["1"]["inputs"]["noise_seed"] == 0
    assert only_class(package)().to_graph()["1"]["inputs"]["big"] == 2**70


def test_a_whole_number_may_be_a_float_and_is_reproduced_as_whole(
    generate_package: GeneratePackage,
) -> None:
    _, package = generate_package({"a.json": UGLY["values"], "object_info.json": SCHEMAS})
    cls = only_class(package)
    assert json.dumps(cls().to_graph()["2"]["inputs"]["a"]) == "8"
    assert cls(numbers_a=0.5).to_graph()["2"]["inputs"]["a"] == 0.5
    kinds = {name: spec.kind for name, spec in input_specs(package).items()}
    assert (kinds["numbers_e"], kinds["numbers_g"]) == ("flag", "number")
    with pytest.raises(Exception, match="expected a number, got bool"):
        cls(numbers_g=True)
    with pytest.raises(Exception, match="expected True or False"):
        cls(numbers_e=1)


def test_null_accepts_any_type(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["values"]})
    cls = only_class(package)
    assert input_specs(package)["nothing_a"].kind == "value"
    for value in (None, 3, "x", {"y": [1]}):
        assert cls(nothing_a=value).to_graph()["3"]["inputs"]["a"] == value


def test_the_state_of_the_web_ui_is_not_public(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["values"]})
    public = {spec.targets[0] for spec in input_specs(package).values()}
    names = {target.input for target in public}
    assert not names & {"upload", "choose file to upload", "control_after_generate"}
    assert is_same_json(only_class(package)().to_graph(), UGLY["values"])


def test_objects_can_be_set_and_are_copied(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["values"]})
    cls = only_class(package)
    given = {"on": False, "s": [1]}
    one = cls(nothing_c=given)
    one.to_graph()["3"]["inputs"]["c"]["s"].append(2)
    assert one.to_graph()["3"]["inputs"]["c"] == {"on": False, "s": [1]}
    cls().nothing_c["s"].append(3)
    assert is_same_json(cls().to_graph(), UGLY["values"])


def test_texts_of_any_content_and_length_are_exact(generate_package: GeneratePackage) -> None:
    graph = copy.deepcopy(UGLY["values"])
    graph["5"]["inputs"]["long"] = "ab\n'\"\\" * 200_000
    _, package = generate_package({"a.json": graph})
    assert is_same_json(only_class(package)().to_graph(), graph)


def test_placeholders_are_not_expanded(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["titles like code"]})
    assert only_class(package)().to_graph()["3"]["inputs"]["x"] == "{{STEPS}} %date%"


def test_paths_in_values_are_never_read(
    make_workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    graph = {"1": node("LoadImage", image=str(secret)), "2": node("Load", path=str(secret))}
    workspace = make_workspace({"a.json": graph})
    opened: list[str] = []
    really = io.open

    def watched(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return really(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", watched)
    workspace.generate()
    workflow = only_class(workspace.module())()
    workflow.to_graph()
    assert read_files(workflow) == {}
    assert opened
    assert str(secret) not in opened


def test_a_required_input_that_the_export_lacks_warns(make_workspace: MakeWorkspace) -> None:
    graph = {"1": node("KSampler", seed=1, model=["1", 0])}
    report = make_workspace({"a.json": graph, "object_info.json": SCHEMAS}).generate()
    assert "warning: a.json: node 1: KSampler requires an input 'steps'" in problem_text(report)


def test_long_lists_unknown_node_types_and_missing_models_are_accepted(
    generate_package: GeneratePackage,
) -> None:
    combos = {
        "font": [[f"font {n}" for n in range(3000)]],
        "model": [["there.safetensors"]],
        "mode": [["fast", "slow"]],
    }
    graph = {
        "1": node("Many", font="font 7", model="elsewhere.safetensors", mode="fast"),
        "2": node("NotInTheSchemas", x=1, y=["1", 0]),
    }
    schemas = {"Many": {"input": {"required": combos}}}
    report, package = generate_package({"a.json": graph, "object_info.json": schemas})
    assert not report.problems, problem_text(report)
    kinds = {name: spec.kind for name, spec in input_specs(package).items()}
    assert kinds["many_font"] == kinds["many_model"] == "text"
    assert kinds["many_mode"] == "choice"
    source = Path(sys.modules[only_class(package).__module__].__file__ or "").read_text("utf-8")
    assert "font 2999" not in source


@pytest.mark.parametrize(
    ("facts", "least", "most"),
    [
        ({"max": 1e18}, 0, 10**18),
        ({"max": 10.5}, 0, 10),
        ({"max": -1}, 0, 0),
        ({"min": 100, "max": 200}, 100, 200),
        ({}, 0, 2**64 - 1),
    ],
)
@pytest.mark.parametrize("binding", [None, '[inputs.a_seed]\nto = ["1.seed"]\n'])
def test_seeds_are_drawn_from_the_range_of_the_node(
    generate_package: GeneratePackage, facts: Any, least: int, most: int, binding: str | None
) -> None:
    schemas = {"A": {"input": {"required": {"seed": ["INT", facts]}}, "output_node": True}}
    files = {"a.json": {"1": node("A", seed=least)}, "object_info.json": schemas}
    report, package = generate_package(files if binding is None else {**files, "a.toml": binding})
    assert not report.errors, problem_text(report)
    workflow = package.AWorkflow()
    for draw in (lambda parsed: 0, lambda parsed: parsed):
        (seed,) = draw_seeds(workflow, draw).values()
        assert least <= seed <= most
    assert type(package.AWorkflow.__workflow__.inputs[0].le) is int


def test_an_impossible_seed_range_is_refused(make_workspace: MakeWorkspace) -> None:
    schemas = {"A": {"input": {"required": {"seed": ["INT", {"max": 10}]}}}}
    binding = '[inputs.s]\nto = ["1.seed"]\nge = 100\n'
    files = {"a.json": {"1": node("A", seed=1)}, "object_info.json": schemas, "a.toml": binding}
    assert "no seed is at least 100 and at most 10" in problem_text(
        make_workspace(files).generate()
    )
