"""Binding files: selectors, defaults, ranges, and errors that name a correction."""

from __future__ import annotations

import pytest

from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
)
from comfyloom_codegen import Report

ONE = {"title": "ONE"}
GRAPH = {
    "1": {"inputs": {"a.b": "x", "b": "x", "n": 3}, "class_type": "Text", "_meta": ONE},
    "2": {"inputs": {"b": "y", "n": 4}, "class_type": "Text", "_meta": {"title": "TWO"}},
    "3": {"inputs": {"seed": 5, "w": 0.5, "from": ["1", 0]}, "class_type": "Mix.er"},
    "4": {"inputs": {"seed": 5, "images": ["3", 0]}, "class_type": "SaveImage"},
}
SCHEMAS = {
    "Mix.er": {
        "input": {
            "required": {
                "seed": ["INT", {"max": 2**31 - 1}],
                "w": ["FLOAT", {"min": 0.0, "max": 1.0}],
            }
        }
    },
    "SaveImage": {"output_node": True, "input": {"optional": {"seed": ["INT", {"max": 999}]}}},
    "Text": {"input": {"required": {"b": [["x", "y", "z"]], "n": ["INT", {"min": 1, "max": 9}]}}},
}


def bind(make_workspace: MakeWorkspace, binding: str, **files: object) -> Report:
    """Return the report for GRAPH with a binding."""
    given = {"a.json": GRAPH, "object_info.json": SCHEMAS, "a.toml": binding, **files}
    return make_workspace(given).generate()


def problem_lines(report: Report) -> list[str]:
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize(
    ("binding", "reason"),
    [
        ("x = ", "a.toml: Invalid value"),
        ('clas = "X"', "a.toml: unknown key 'clas'; did you mean 'class'?"),
        ('class = "1x"', "a.toml: class: '1x' is not a Python identifier"),
        ('class = "small"', "a.toml: class: 'small' begins with a lowercase letter"),
        ("class = 5", "a.toml: class: expected a string"),
        ('command = "Two words"', "a.toml: command: 'Two words' is not a name"),
        ("[inputs.x]\ndoc = 'x'", "inputs.x.to: this key is missing"),
        ("inputs = 3", "a.toml: inputs: expected a table"),
        ("[inputs]\nx = 3", "a.toml: inputs.x: expected a table"),
        ("[inputs.x]\nto = 'ONE.b'", "a.toml: inputs.x.to: expected a list"),
        ("[inputs.x]\nto = []", "a.toml: inputs.x: to is empty"),
        ("[inputs.x]\nto = ['ONE.b']\nkidn = 'text'", "unknown key 'kidn'; did you mean 'kind'?"),
        ("[inputs.x]\nto = ['ONE.b']\nkind = 'txt'", "did you mean 'text'?"),
        (
            "[inputs.x]\nto = ['ONE.b']\nrequired = 'no'",
            "x.required: expected true or false",
        ),
        ("[inputs.x]\nto = ['ONE.n']\nge = '1'", "inputs.x.ge: expected a number"),
        ("[inputs.x]\nto = ['ONE.b']\nkind = 'images'", "one node takes one image: set kind"),
        ("[inputs.x]\nto = ['ONE.q']", "node 1 (Text, 'ONE') has no input 'q'; it has 'a.b', 'b'"),
        ("[inputs.x]\nto = ['ON.b']", "no node fits 'ON'; similar: 'ONE' = node 1 (Text, 'ONE')"),
        ("[inputs.x]\nto = ['Text.b']", "'Text' fits 2 nodes: 1 (Text, 'ONE'), 2 (Text, 'TWO')"),
        ("[inputs.x]\nto = ['nodots']", "'nodots' is not 'NODE.input'"),
        (
            "[inputs.x]\nto = [{node = {class = 'Text', id = '3'}, input = 'b'}]",
            "no node fits class 'Text' and id '3'",
        ),
        ("[inputs.x]\nto = [{node = {}, input = 'b'}]", "one of title, class, id is required"),
        (
            "[inputs.x]\nto = ['ONE.b', 'TWO.b']",
            "a.toml: inputs.x: its node inputs hold different values ('x', 'y')",
        ),
        ("[inputs.x]\nto = ['ONE.b', 'ONE.n']\n", "its node inputs differ (choice, integer)"),
        ("[inputs.x]\nto = ['ONE.n']\nle = 2", "its default: 3 is out of range (1 to 2)"),
        ("[inputs.x]\nto = ['ONE.n']\nge = 10", "no value is at least 10 and at most 9"),
        ("[inputs.x]\nto = ['ONE.b']\nge = 10", "ge and le do not apply to the kind choice"),
        ("[inputs.x]\nto = ['ONE.b']\nkind = 'integer'", "its default: expected a whole number"),
        ("[inputs.x]\nto = ['3.from']", "its input is linked: set default, or required = true"),
        (
            "[inputs.x]\nkind = 'image'\nto = ['ONE.n']",
            "the kind image does not fit input 'n' of node 1",
        ),
        ("[inputs.x]\nkind = 'flag'\nto = ['3.seed']", "node 3 (Mix.er), which takes INT"),
        ("[inputs.x]\nto = ['nothing.x']", "fits 'nothing'; the nodes are 1 (Text, 'ONE'), 2"),
        ("hide = ['nothing']", "hide[0]: no node fits 'nothing'"),
        ("[inputs.x]\nto = ['3.seed']\nrequired = true", "a seed cannot be required"),
        ("[inputs.for]\nto = ['ONE.b']", "'for' is a Python keyword"),
        ("[inputs._x]\nto = ['ONE.b']", "'_x' begins with an underscore"),
        ("[inputs.to_graph]\nto = ['ONE.b']", "'to_graph' is taken by the base class"),
        ("[inputs.with_x]\nto = ['ONE.b']", "'with_x' begins with 'with_', as the methods do"),
        ("[inputs.x]\nto = ['1.b']\n[inputs.y]\nto = ['1.b']", "inputs.y: x sets input 'b' too"),
        ("[results.x]\nnode = 'SaveImag'", "results.x: no node fits 'SaveImag'; similar: "),
        ("[results.x]\nnode = '4'\nfile = '../x.png'", "'../x.png' is not a file name"),
        ("[results.seed]\nnode = '4'", "'seed' is taken by the base class"),
        ("[[stages]]\nname = 'a'\nshare = 0\nnodes = ['4']", "share must be greater than 0"),
        ("[[stages]]\nname = 'a'\nshare = 1\nnodes = ['4', '4']", "stages: the node is in several"),
    ],
)
def test_an_error_in_a_binding_is_reported_with_its_key(
    make_workspace: MakeWorkspace, binding: str, reason: str
) -> None:
    report = bind(make_workspace, binding)
    assert any(reason in line for line in problem_lines(report)), problem_lines(report)
    assert report.errors
    assert [outcome.state for outcome in report.outcomes] == ["failed"]


def test_all_errors_are_reported_together(make_workspace: MakeWorkspace) -> None:
    report = bind(make_workspace, "[inputs.x]\nto = ['Q.q', 'W.w']\n[inputs.y]\nto = ['Z.z']\n")
    assert len(report.errors) == 3


def test_every_form_of_a_selector_is_resolved(generate_package: GeneratePackage) -> None:
    binding = """
        class = "Some"
        [inputs.dotted]
        to = ["ONE.a.b"]
        [inputs.by_class]
        to = ["Mix.er.w"]
        [inputs.both]
        required = true
        to = [{ node = { title = "ONE", class = "Text" }, input = "b" }, "TWO.b"]
        [inputs.seed]
        to = ["3.seed", "4.seed"]
        [inputs.count]
        ge = 2
        to = ["TWO.n"]
        [inputs.cut]
        default = "free"
        to = ["3.from"]
    """
    report, package = generate_package(
        {"a.json": GRAPH, "object_info.json": SCHEMAS, "a.toml": binding}
    )
    assert not report.errors, problem_lines(report)
    workflow = package.SomeWorkflow(both="z", seed=2**20)
    graph = workflow.to_graph()
    assert graph["1"]["inputs"]["b"] == graph["2"]["inputs"]["b"] == "z"
    assert graph["3"]["inputs"]["seed"] == 2**20
    assert graph["4"]["inputs"]["seed"] == 2**20 % 1000
    assert graph["3"]["inputs"]["from"] == "free"
    assert (
        "is linked to node 1 (Text, 'ONE'); a value replaces the link" in problem_lines(report)[0]
    )
    by_name = {spec.name: spec for spec in package.SomeWorkflow.__workflow__.inputs}
    assert list(by_name) == ["dotted", "by_class", "both", "seed", "count", "cut"]
    assert by_name["both"].choices == ("x", "y", "z")
    assert (by_name["count"].ge, by_name["count"].le) == (2, 9)
    assert by_name["seed"].le == 2**31 - 1
    assert [spec.name for spec in package.SomeWorkflow.__workflow__.outputs] == ["save_image"]


def test_the_error_for_a_linked_input_names_the_value_that_feeds_it(
    make_workspace: MakeWorkspace,
) -> None:
    graph = {
        "1": {"inputs": {"value": 3}, "class_type": "PrimitiveInt", "_meta": {"title": "STEPS"}},
        "2": {"inputs": {"steps": ["1", 0], "x": ["1", 0]}, "class_type": "SaveImage"},
    }
    report = make_workspace(
        {"a.json": graph, "a.toml": "[inputs.steps]\nto = ['2.steps']\n"}
    ).generate()
    assert 'its input is linked: target "STEPS.value" instead, or set' in str(report.errors[0])


def test_results_of_other_nodes_and_inputs_without_effect_warn(
    make_workspace: MakeWorkspace,
) -> None:
    graph = {**GRAPH, "9": {"inputs": {"b": "x"}, "class_type": "Text"}}
    report = bind(
        make_workspace, "[results.x]\nnode = '3'\n[results.y]\nnode = '4'", **{"a.json": graph}
    )
    lines = problem_lines(report)
    assert any("a.toml: node 3: results.x: Mix.er is not an output node" in line for line in lines)
    assert any("node 9: no output node uses it, so text_b has no effect" in x for x in lines)


def test_a_binding_without_a_workflow_warns(make_workspace: MakeWorkspace) -> None:
    report = bind(make_workspace, 'class = "X"', **{"b.toml": ""})
    assert "warning: b.toml: there is no workflow file with this name" in problem_lines(report)


def test_long_or_file_like_choices_are_not_literals(generate_package: GeneratePackage) -> None:
    combos = {
        "many": [[str(n) for n in range(30)]],
        "models": [["a.safetensors", "b.safetensors"]],
        "numbers": [[1, 2]],
        "modern": ["COMBO", {"options": ["p", "q"]}],
        "absent": [["p", "q"]],
    }
    inputs = {"many": "3", "models": "c.pt", "numbers": 1, "modern": "p", "absent": "gone"}
    files = {
        "a.json": {"1": {"inputs": inputs, "class_type": "C"}},
        "object_info.json": {"C": {"input": {"required": combos}}},
    }
    report, package = generate_package(files)
    assert not report.errors
    kinds = {spec.name[2:]: spec.kind for spec in package.AWorkflow.__workflow__.inputs}
    assert kinds == {
        "many": "text",
        "models": "text",
        "numbers": "number",
        "modern": "choice",
        "absent": "text",
    }
    assert package.AWorkflow().to_graph() == files["a.json"]


def test_a_value_outside_its_schema_warns_and_is_kept(generate_package: GeneratePackage) -> None:
    schema = {"C": {"input": {"required": {"n": ["INT", {"max": 5}], "f": ["FLOAT"]}}}}
    graph = {"1": {"inputs": {"n": 9, "f": 8}, "class_type": "C"}}
    report, package = generate_package({"a.json": graph, "object_info.json": schema})
    assert "9 is out of range" in problem_lines(report)[0]
    assert package.AWorkflow().to_graph() == graph
    assert package.AWorkflow(c_f=0.5).to_graph()["1"]["inputs"]["f"] == 0.5
