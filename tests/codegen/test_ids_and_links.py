"""Ids and links of unusual graphs are kept exactly."""

from __future__ import annotations

import time

import pytest

from codegen.workspace import (
    GeneratePackage,
    input_specs,
    is_same_json,
    only_class,
    problem_text,
)
from comfyloom._workflow.graph import check_graph
from comfyloom.errors import GraphError
from ugly import UGLY, node


def test_ids_stay_texts_in_their_order(generate_package: GeneratePackage) -> None:
    graph = UGLY["ids"]
    _, package = generate_package({"a.json": graph})
    assert list(only_class(package)().to_graph()) == list(graph)
    by_node = {spec.node: name for name, spec in input_specs(package).items()}
    assert by_node == {
        "65:33:11": "group_x",
        "012": "octal_012_x",
        "12": "octal_12_x",
        "LoadImage": "load_image_image",
        "-1": "negative_x",
    }
    sent = only_class(package)(octal_012_x=5, group_x=6).to_graph()
    assert (sent["012"]["inputs"]["x"], sent["12"]["inputs"]["x"]) == (5, 1)
    assert sent["65:33:11"]["inputs"]["x"] == 6
    binding = '[inputs.one]\nto = [{ node = { id = "a.b" }, input = "x" }]\ndefault = 3\n'
    _, package = generate_package({"b.json": graph, "b.toml": binding})
    assert only_class(package)(one=4).to_graph()["a.b"]["inputs"]["x"] == 4


def test_a_dangling_link_warns_and_is_an_error_before_anything_is_sent(
    generate_package: GeneratePackage,
) -> None:
    graph = {"1": node("A", x=["9", 0])}
    report, package = generate_package({"a.json": graph})
    assert "node 1: input 'x' links to node '9', which does not exist" in problem_text(report)
    assert only_class(package)().to_graph() == graph
    with pytest.raises(GraphError, match="node 9, which does not exist"):
        check_graph(only_class(package)().to_graph())


def test_a_list_that_a_caller_sets_is_a_value_and_not_a_link(
    generate_package: GeneratePackage,
) -> None:
    _, package = generate_package({"a.json": UGLY["values"]})
    cls = only_class(package)
    assert cls().lists_a == [1, 2]
    for given in (["1", 0], ("1", 0)):
        sent = cls(lists_a=given).to_graph()
        assert sent["6"]["inputs"]["a"] == {"__value__": ["1", 0]}
    assert sent["6"]["inputs"]["c"] == {"__value__": 3}


def test_slots_and_lists_of_links_are_kept(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["links"]})
    assert input_specs(package) == {}
    assert is_same_json(only_class(package)().to_graph(), UGLY["links"])


def test_cycles_do_not_hang(generate_package: GeneratePackage) -> None:
    ring = {str(n): node("A", x=[str((n + 1) % 50), 0]) for n in range(50)}
    report, package = generate_package({"a.json": ring})
    assert not report.errors
    assert is_same_json(only_class(package)().to_graph(), ring)


def test_a_value_for_a_linked_input_replaces_the_link(generate_package: GeneratePackage) -> None:
    graph = {"1": node("Text", "PROMPT", value="x"), "2": node("Encode", "CLIP", text=["1", 0])}
    binding = '[inputs.text]\nrequired = true\nto = ["CLIP.text"]\n'
    report, package = generate_package({"a.json": graph, "a.toml": binding})
    assert "is linked to node 1 (Text, 'PROMPT'); a value replaces the link" in problem_text(report)
    assert only_class(package)(text="y").to_graph()["2"]["inputs"]["text"] == "y"


def test_a_chain_of_five_thousand_nodes_takes_seconds(generate_package: GeneratePackage) -> None:
    graph = {str(n): node("Step", x=n, before=[str(n - 1), 0]) for n in range(1, 5000)}
    graph["0"] = node("Step", x=0)
    begun = time.monotonic()
    report, package = generate_package({"a.json": graph})
    assert not report.errors
    assert is_same_json(only_class(package)().to_graph(), graph)
    assert time.monotonic() - begun < 60  # some seconds: no depth of recursion, no square
