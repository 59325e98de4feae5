"""What no server can run is refused here, by the schemas that a package carries."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyloom._workflow.compatibility import compare
from comfyloom._workflow.graph import check_graph, cycle_in, links_of, reachable_from
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.validation import problems_of, validate
from comfyloom_workflows import FluxMeshWorkflow

SCHEMAS: dict[str, Any] = {
    "Load": {
        "input": {"required": {"file": [["a.ckpt", "b.ckpt"]]}},
        "output": ["MODEL", "CLIP"],
    },
    "Sample": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "steps": ["INT", {"min": 1, "max": 100}],
                "cfg": ["FLOAT", {"min": 0.0, "max": 30.0}],
                "sampler": [["euler", "heun", "ddim"]],
                "any": ["*"],
            },
            "optional": {"name": ["STRING"]},
        },
        "output": ["LATENT"],
    },
    "Save": {"input": {"required": {"x": ["LATENT,IMAGE"]}}, "output_node": True},
}


def graph(**changes: Any) -> dict[str, Any]:
    sample = {
        "model": ["1", 0],
        "steps": 20,
        "cfg": 7,
        "sampler": "euler",
        "any": ["1", 1],
        **changes,
    }
    return {
        "1": {"class_type": "Load", "inputs": {"file": "gone.ckpt"}},
        "2": {"class_type": "Sample", "inputs": sample},
        "3": {"class_type": "Save", "inputs": {"x": ["2", 0]}},
        "4": {"class_type": "Unknown", "inputs": {"x": ["1", 0]}},
    }


def messages_of(given: dict[str, Any]) -> list[str]:
    return [str(each) for each in problems_of(GraphView(given, Schemas(SCHEMAS)))]


def test_checks_that_need_the_server_are_left_to_it() -> None:
    assert messages_of(graph()) == []
    kinds = {
        each.kind
        for each in compare(GraphView(graph(), Schemas(SCHEMAS)), Schemas({}), frozenset())
    }
    assert kinds == {"model", "node"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": 101}, "steps: 101 is more than 100"),
        ({"steps": "0"}, "steps: '0' is less than 1"),
        ({"steps": "many"}, "steps: 'many' is not a valid INT"),
        ({"steps": None}, "steps: None is not a valid INT"),
        ({"steps": [1]}, "steps: [1] is not a valid INT"),
        ({"steps": 10**5000}, "steps: the number is more than 100"),
        ({"cfg": float("inf")}, "cfg: inf is more than 30"),
        ({"cfg": {}}, "cfg: {} is not a valid FLOAT"),
        (
            {"sampler": "oiler"},
            "sampler: 'oiler' is not one of euler, heun, ddim; did you mean 'euler'?",
        ),
        ({"model": ["1", 1]}, "model: it takes MODEL, but node 1 gives CLIP"),
        ({"model": ["1", 7]}, "model: node 1 has no output 7: it has 2 (counted from 0)"),
        ({"model": ["2", 0]}, "model: it takes MODEL, but node 2 gives LATENT"),
    ],
)
def test_graphs_that_cannot_run_are_refused(changes: dict[str, Any], reason: str) -> None:
    (line,) = messages_of(graph(**changes))
    assert line == f"node 2 (Sample), {reason}"


def test_a_missing_required_input_is_a_problem() -> None:
    given = graph()
    del given["2"]["inputs"]["steps"]
    assert messages_of(given) == ["node 2 (Sample), steps: the server requires this input"]


def test_values_that_the_server_coerces_pass() -> None:
    assert messages_of(graph(steps="5", cfg="1.5", name=7)) == []
    assert messages_of(graph(steps=True, cfg=3, name=None)) == []


def test_slots_beyond_outputs_of_any_type_pass() -> None:
    schemas = Schemas({**SCHEMAS, "Load": {**SCHEMAS["Load"], "output": ["MODEL", "*"]}})
    assert not problems_of(GraphView(graph(any=["1", 5]), schemas))


def test_nodes_that_no_output_needs_are_not_checked() -> None:
    given = graph()
    given["5"] = {"class_type": "Sample", "inputs": {"steps": 1000}}
    given["6"] = {"class_type": "Sample", "inputs": {"model": ["6", 0]}}
    assert messages_of(given) == []
    given["3"]["inputs"]["x"] = ["5", 0]
    assert any("steps: 1000 is more than 100" in line for line in messages_of(given))


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (["COMFY_AUTOGROW_V3", {"template": {}}], {"images.image0": ["1", 0]}),
        (["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a", "inputs": {}}]}], {"x": "a"}),
        (["COMFY_MATCHTYPE_V3", {}], {"x": ["1", 0]}),
        (["INT, FLOAT"], {"x": ["7", 0]}),
        (["IMAGE,*"], {"x": ["7", 0]}),
        (["INT", {"max": 9}], {"x": {"__value__": 5}}),
        ([["pixel_space"]], {"x": "taesd"}),
        ([["None"]], {"x": "mine"}),
    ],
)
def test_values_that_a_server_accepts_are_not_refused(declared: Any, given: dict[str, Any]) -> None:
    schemas = {
        **SCHEMAS,
        "New": {"input": {"required": {"x": declared}}, "output_node": True},
        "Number": {"input": {}, "output": ["FLOAT"]},
    }
    made = {
        **graph(),
        "7": {"class_type": "Number", "inputs": {}},
        "8": {"class_type": "New", "inputs": given},
    }
    found = problems_of(GraphView(made, Schemas(schemas)))
    assert [str(each) for each in found] == []


def test_a_negative_slot_is_a_problem() -> None:
    assert messages_of(graph(model=["1", -1])) == [
        "node 2 (Sample), model: node 1 has no output -1: it has 2 (counted from 0)"
    ]


def test_the_committed_workflow_is_valid() -> None:
    validate(FluxMeshWorkflow(input_image="x.png", prompt="x"))


def test_cycles_are_found_at_any_depth() -> None:
    deep = {str(n): {"class_type": "A", "inputs": {"x": [str(n + 1), 0]}} for n in range(20_000)}
    deep["20000"] = {"class_type": "A", "inputs": {}}
    assert cycle_in(links_of(deep)) == []
    deep["20000"]["inputs"]["x"] = ["19998", 0]
    assert cycle_in(links_of(deep)) == ["19998", "19999", "20000", "19998"]
    assert cycle_in(links_of({"1": {"inputs": {"x": ["1", 0]}}})) == ["1", "1"]


def test_only_nodes_that_an_output_needs_are_reachable() -> None:
    assert reachable_from(["3"], links_of(graph())) == {"1", "2", "3"}
    assert reachable_from([], links_of(graph())) == set()


links = st.lists(st.sampled_from("abcdef"), max_size=3)


@given(st.dictionaries(st.sampled_from("abcdef"), links))
def test_cycles_are_the_ones_found_by_following_every_link(shape: dict[str, list[str]]) -> None:
    made = {
        node: {"class_type": "A", "inputs": {str(n): [to, 0] for n, to in enumerate(tos)}}
        for node, tos in shape.items()
    }

    def reach(node: str) -> set[str]:
        seen: set[str] = set()
        waiting = [to for to in shape.get(node, []) if to in shape]
        while waiting:
            if (each := waiting.pop()) not in seen:
                seen.add(each)
                waiting += [to for to in shape[each] if to in shape]
        return seen

    cycle = cycle_in(links_of(made))
    assert bool(cycle) == any(node in reach(node) for node in shape)
    for node, source in pairwise(cycle):
        assert source in shape[node]
    assert cycle[:1] == cycle[-1:]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["steps", "cfg", "sampler", "model", "any"]), JSON))
def test_no_value_breaks_the_validation(changes: dict[str, Any]) -> None:
    made = graph(**changes)
    json.dumps(made)
    messages_of(made)
    if all(not isinstance(value, list) for value in changes.values()):
        check_graph(made)
