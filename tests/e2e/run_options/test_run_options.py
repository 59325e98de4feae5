"""What runs, what is wanted, and what else a prompt carries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.ui_form import ui_form
from comfyloom.emulator import Emulator, Node, NodeCall, NodeResult
from comfyloom.errors import ConfigError, InputValueError
from comfyloom_workflows import FluxImageWorkflow, FluxMeshWorkflow
from option_lab import EMPTY_PICTURE, FILL, RESULT, SIDE, Posted, picture
from small_runs import direct_session, small_workflow

# --- only what is wanted runs --------------------------------------------------------------------


def test_only_the_nodes_of_wanted_results_run(emulator: Emulator, posted: Posted) -> None:
    with direct_session(emulator) as session:
        result = session.run(small_workflow(), outputs=["image"])
        assert result.image.size
        assert result.mesh is None
        assert "33" not in result.ui
        whole = session.run(small_workflow())
        assert whole.mesh.size
    cut, full = posted()
    assert set(full["graph"]) == set(FluxMeshWorkflow.template_graph())
    assert set(cut["graph"]) < set(full["graph"])
    assert {"24", "16", "34"} <= set(cut["graph"])
    assert not {"33", "32"} & set(cut["graph"])


def test_a_broken_branch_that_nobody_wants_neither_fails_nor_runs(
    emulator: Emulator, posted: Posted, made: Callable[..., Any]
) -> None:
    broken = {
        "7": {"class_type": "NoSuchNode", "inputs": {"images": ["1", 0]}},
        "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "b"}},
    }
    cls = made({**FILL, **broken}, RESULT)
    with direct_session(emulator) as session:
        assert session.run(cls()).picture.size
    assert set(posted()[0]["graph"]) == {"1", "2"}


def test_everything_runs_on_request(
    emulator: Emulator, posted: Posted, made: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = made({**FILL, **SIDE}, RESULT)
    with direct_session(emulator) as session:
        session.run(cls())
        session.run(cls(), keep_all=True)
    monkeypatch.setenv("COMFYLOOM_KEEP_ALL", "yes")
    with direct_session(emulator) as session:
        session.run(cls())
        session.run(cls(), keep_all=False)
    assert [len(each["graph"]) for each in posted()] == [2, 3, 3, 2]


def test_a_binding_keeps_nodes_with_side_effects(
    emulator: Emulator, posted: Posted, made: Callable[..., Any]
) -> None:
    cls = made({**FILL, **SIDE}, 'keep = ["Log it"]\n' + RESULT)
    assert cls.__workflow__.keep == ("9",)
    with direct_session(emulator) as session:
        session.run(cls())
    assert set(posted()[0]["graph"]) == {"1", "2", "9"}


def test_a_result_of_a_node_that_is_no_output_keeps_the_output_behind_it(
    emulator: Emulator, posted: Posted, made: Callable[..., Any]
) -> None:
    cls = made({**FILL, **SIDE}, '[results]\nfound = { node = "1", kind = "json", key = "x" }\n')
    with direct_session(emulator) as session:
        session.run(cls())
    assert set(posted()[0]["graph"]) == {"1", "2", "9"}


def test_a_value_for_a_node_that_does_not_run_is_not_needed(
    emulator: Emulator, posted: Posted, made: Callable[..., Any]
) -> None:
    loading = {
        "5": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
    }
    binding = (
        '[inputs]\nphoto = { to = ["5.image"], kind = "image" }\n'
        '[results]\npicture = { node = "2", kind = "image" }\n'
        'copy = { node = "6", kind = "image" }\n'
    )
    cls = made({**FILL, **loading}, binding)
    with direct_session(emulator) as session:
        missing = cls(photo="no such file.png")
        assert session.run(missing, outputs=["picture"]).copy is None
        with pytest.raises(InputValueError, match="copie"):
            session.run(missing, outputs=["copie"])
    assert set(posted()[0]["graph"]) == {"1", "2"}


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ([], "image, mesh"),
        (["picture"], "picture"),
        (["imag"], "did you mean 'image'"),
        ("image", "list"),
        (5, "list"),
        ([["image"]], "list"),
        (iter([]), "list"),
    ],
)
def test_a_wrong_wish_is_refused(emulator: Emulator, outputs: Any, problem: str) -> None:
    with direct_session(emulator) as session, pytest.raises(InputValueError, match=problem):
        session.run(small_workflow(), outputs=outputs)
    assert not emulator.state()["prompts"]


def test_progress_counts_only_what_runs(emulator: Emulator) -> None:
    seen: list[Any] = []
    with direct_session(emulator) as session:
        session.run(small_workflow(), outputs=["image"], on_progress=seen.append)
    last = [each for each in seen if each.kind in ("node", "step")][-1]
    assert last.fraction > 0.8
    assert "mesh" not in seen[-1].stages


# --- what a prompt carries -----------------------------------------------------------------------


def test_extra_data_preview_method_and_the_place_in_the_queue(
    emulator: Emulator, posted: Posted
) -> None:
    with direct_session(emulator) as session:
        run = FluxImageWorkflow(prompt="x", width=64, height=64)
        session.run(run, extra_data={"studio": 7}, preview_method="taesd")
        session.run(run, front=True)
        session.run(run, priority=3)
        session.run(run, priority=-2)
        session.run(run)
    plain, front, early, late, last = posted()
    assert plain["extra_data"]["studio"] == 7
    assert plain["extra_data"]["preview_method"] == "taesd"
    assert (front["number"] < 0, early["number"], late["number"] > 10**6) == (True, -3.0, True)
    assert last["number"] >= 0
    assert "preview_method" not in last["extra_data"]


def test_the_partners_key_goes_only_where_it_may_be_needed(
    monkeypatch: pytest.MonkeyPatch, made: Callable[..., Any]
) -> None:
    from comfyloom_emulator.nodes.images import IMAGES

    monkeypatch.setenv("COMFYLOOM_API_KEY_COMFY_ORG", "comfyui-s3cret-key")
    seen: list[Mapping[str, Any]] = []

    def run(call: NodeCall) -> NodeResult:
        seen.append(call.extra_data)
        return NodeResult()

    partner = {"9": {"class_type": "PartnerNode", "inputs": {"images": ["1", 0]}}}
    cls = made({**FILL, **partner}, 'keep = ["9"]\n' + RESULT)
    schema = {"input": {"required": {"images": ["IMAGE"]}}, "output": [], "output_node": True}
    nodes = {"PartnerNode": Node(run=run), "EmptyPicture": Node(run=picture)}
    with (
        Emulator(object_info={"PartnerNode": schema, **EMPTY_PICTURE}, nodes=nodes) as other,
        direct_session(other) as session,
    ):
        session.run(cls())
        assert "comfyui-s3cret-key" not in repr(session)
    assert seen[0]["api_key_comfy_org"] == "comfyui-s3cret-key"
    seen.clear()

    def save(call: NodeCall) -> NodeResult:
        seen.append(call.extra_data)
        return IMAGES["SaveImage"].run(call)

    with (
        Emulator(nodes={"SaveImage": Node(run=save)}) as other,
        direct_session(other) as session,
    ):
        session.run(FluxImageWorkflow(prompt="x", width=64, height=64))
    assert "extra_pnginfo" in seen[0]
    assert "api_key_comfy_org" not in seen[0]


def test_only_the_targets_run(emulator: Emulator, made: Callable[..., Any], posted: Posted) -> None:
    cls = made({**FILL, **SIDE}, RESULT)
    with direct_session(emulator) as session:
        result = session.run(cls(), keep_all=True, targets=["2"])
        with pytest.raises(ConfigError, match="no node 22 runs"):
            session.run(cls(), targets=["22"])
    assert set(result.ui) == {"2"}
    assert posted()[0]["outputs"] == ["2"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"preview_method": "tasd"}, "did you mean 'taesd'"),
        ({"priority": float("nan")}, "priority"),
        ({"priority": True}, "priority"),
        ({"front": True, "priority": 1}, "exclude"),
        ({"targets": "24"}, "list"),
        ({"targets": 24}, "list"),
        ({"targets": [["24"]]}, "list"),
        ({"priority": "3"}, "priority"),
        ({"priority": None}, "priority"),
        ({"front": "no"}, "front"),
        ({"fresh": "no"}, "fresh"),
        ({"keep_all": 1}, "keep_all"),
        ({"extra_data": {"x": object()}}, "extra_data"),
        ({"extra_data": "x"}, "extra_data"),
    ],
)
def test_wrong_options_are_refused(
    emulator: Emulator, options: dict[str, Any], problem: str
) -> None:
    with direct_session(emulator) as session, pytest.raises(ConfigError, match=problem):
        session.run(small_workflow(), **options)
    with direct_session(emulator) as session, pytest.raises(TypeError, match="mean 'outputs'"):
        session.run(small_workflow(), outptus=["image"])  # type: ignore[call-arg]  # pyright: ignore
    assert not emulator.state()["prompts"]


def test_names_may_be_any_iterable(emulator: Emulator, posted: Posted) -> None:
    with direct_session(emulator) as session:
        result = session.run(small_workflow(), outputs=iter(["image"]), targets=iter(["24"]))  # type: ignore[arg-type]
    assert result.image.size
    assert posted()[0]["outputs"] == ["24"]


def test_the_form_of_a_graph_that_no_server_runs() -> None:
    chain = {"1": {"class_type": "A", "inputs": {}}}
    chain |= {str(n): {"class_type": "A", "inputs": {"x": [str(n - 1), 0]}} for n in range(2, 9)}
    assert [node["pos"][0] for node in ui_form(chain, Schemas({}))["nodes"]] == [
        *range(0, 3200, 400)
    ]
    cycle = {"9": {"class_type": "A", "inputs": {"x": ["10", 0]}}}
    cycle |= {"10": {"class_type": "A", "inputs": {"x": ["9", 0], "y": ["8", 0]}}}
    page = ui_form({**chain, **cycle}, Schemas({}))
    assert sorted(node["order"] for node in page["nodes"]) == [*range(10)]
    for slot in (-1, 3_000_000):
        odd = {"2": {"class_type": "B", "inputs": {"x": ["1", slot]}}}
        page = ui_form({**odd, "1": chain["1"]}, Schemas({}))
        assert page["nodes"][1]["outputs"] == []


def test_saved_files_carry_a_workflow_that_the_page_opens(emulator: Emulator) -> None:
    from PIL import Image

    with direct_session(emulator) as session:
        result = session.run(small_workflow(prompt="a brass crab"))
    page = json.loads(Image.open(result.image.path).text["workflow"])  # type: ignore[attr-defined]
    nodes = {node["id"]: node for node in page["nodes"]}
    assert set(map(str, nodes)) == set(FluxMeshWorkflow.template_graph())
    assert "a brass crab" in nodes[34]["widgets_values"]
    # A seed has a second value, and every link is known at both of its ends.
    assert nodes[3]["widgets_values"][1] == "fixed"
    for number, source, slot, target, place, _ in page["links"]:
        assert number in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][place]["link"] == number
    orders = [node["order"] for node in page["nodes"]]
    assert sorted(orders) == list(range(len(orders)))
    for _, source, _, target, _, _ in page["links"]:
        assert nodes[source]["order"] < nodes[target]["order"]


def test_a_large_graph_is_not_sent_twice(emulator: Emulator, posted: Posted) -> None:
    with direct_session(emulator) as session:
        session.run(FluxImageWorkflow(prompt="x" * 300_000, width=64, height=64))
    page = posted()[0]["extra_data"]["extra_pnginfo"]["workflow"]
    assert len(json.dumps(page)) < 50_000


def test_the_form_of_nodes_without_schema_keeps_the_order_of_the_graph() -> None:
    graph = {
        "a:1": {"class_type": "A", "inputs": {"x": 1, "seed": 5, "list": {"__value__": [1, 2]}}},
        "2": {
            "class_type": "B",
            "inputs": {"in": ["a:1", 1], "gone": ["77", 0]},
            "_meta": {"title": "T"},
        },
    }
    page = ui_form(graph, Schemas({}))
    first, second = page["nodes"]
    assert (first["id"], first["widgets_values"]) == ("a:1", [1, 5, "fixed", [1, 2]])
    assert (second["id"], second["title"], second["widgets_values"]) == (2, "T", [])
    assert page["links"] == [[1, "a:1", 1, 2, 0, "*"]]
    assert [each["links"] for each in first["outputs"]] == [[], [1]]
    assert page["last_node_id"] == 2
