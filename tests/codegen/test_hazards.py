"""What real workflow files throw at the generator: a test for each of its points, numbered.

What becomes of such a workflow when it runs is in tests/e2e/test_running_hazards.py.
"""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from comfyloom._workflow.graph import check_graph
from comfyloom._workflow.run_values import read_files
from comfyloom.errors import GraphError
from comfyloom_codegen import Report, generate
from comfyloom_codegen.verifying import verify
from ugly import UGLY, named, node

SCHEMAS: dict[str, Any] = {
    "KSampler": {
        "input": {
            "required": {
                "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10_000}],
                "model": ["MODEL"],
            }
        },
        "output": ["LATENT"],
    },
    "Numbers": {"input": {"required": {"a": ["FLOAT", {"min": 0.0}], "b": ["FLOAT"]}}},
    "LoadImage": {
        "input": {"required": {"image": [["other.png"], {"image_upload": True}]}},
        "output": ["IMAGE", "MASK"],
    },
    "SaveImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True},
}


def told(report: Report) -> str:
    return "\n".join(map(str, report.problems))


def workflows(package: Any) -> dict[str, Any]:
    """Return the workflow classes of a package by the name of their graph file."""
    found = [getattr(package, name) for name in package.__all__]
    return {cls.__workflow__.graph: cls for cls in found if hasattr(cls, "__workflow__")}


def only(package: Any) -> Any:
    (cls,) = workflows(package).values()
    return cls


def fields(package: Any) -> dict[str, Any]:
    return {spec.name: spec for spec in only(package).__workflow__.inputs}


def is_same(one: object, other: object) -> bool:
    """Return whether two graphs are equal in ids, order, values and their types."""
    return json.dumps(one) == json.dumps(other)


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_schemas", [False, True], ids=["guessed", "by schemas"])
def test_01_every_ugly_file_generates_type_checks_and_comes_back(
    folder: Any, has_schemas: bool
) -> None:
    pytest.importorskip("mypy")
    files: dict[str, object] = {f"{name}.json": graph for name, graph in UGLY.items()}
    made = folder({**files, **({"object_info.json": SCHEMAS} if has_schemas else {})})
    report = made.generate()
    assert not report.errors, told(report)
    verify(made.out, made.package)
    found = workflows(made.module())
    assert len(found) == len(UGLY)
    for outcome in report.outcomes:
        cls = getattr(made.module(), outcome.workflow)
        assert is_same(cls().to_graph(), UGLY[outcome.file.removesuffix(".json")])
        for spec in cls.__workflow__.inputs:  # every field takes a value, by its method
            value = getattr(cls(), spec.name)
            given = "new.png" if spec.is_file else 7 if spec.kind == "seed" else value
            assert getattr(getattr(cls, f"with_{spec.name}")(given), spec.name) == given


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_02_the_bytes_depend_on_nothing_around(folder: Any, tmp_path: Path, seed: str) -> None:
    made = folder({f"{name}.json": graph for name, graph in UGLY.items()})
    made.generate()
    code = "import sys; from comfyloom_codegen import generate; generate(*sys.argv[1:])"
    env = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": seed, "LC_ALL": "C"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", code, str(made.workflows), "here", made.package]
    subprocess.run(command, cwd=elsewhere, env=env, check=True, timeout=60)
    there = elsewhere / "here" / made.package
    again = {path.name: path.read_bytes() for path in there.iterdir() if path.is_file()}
    assert again == {name: text for name, text in made.files().items() if name != "__pycache__"}


def test_03_nan_outside_inputs_is_tolerated_and_inside_refused(folder: Any) -> None:
    outside = '{"1": {"inputs": {}, "class_type": "A", "is_changed": [NaN]}}'
    inside = '{"7": {"inputs": {"cfg": Infinity}, "class_type": "A"}}'
    made = folder({"outside.json": outside, "inside.json": inside})
    report = made.generate()
    assert [problem.file for problem in report.errors] == ["inside.json"]
    assert "inside.json: node 7: input 'cfg' holds NaN" in told(report)


def test_04_keys_beside_those_of_a_node_stay(made: Any) -> None:
    graph = {"1": {**node("A", x=1), "is_changed": ["z"], "pos": [1.5, 2], "mode": 4}}
    _, package = made({"a.json": graph})
    assert is_same(only(package)().to_graph(), graph)


def test_05_keys_that_are_no_nodes_are_left_out_with_a_warning(made: Any) -> None:
    report, package = made({"a.json": {"1": node("A", x=1), "extra_data": {}, "last": 3}})
    assert "the key 'extra_data' is no node" in told(report)
    assert "the key 'last' is no node" in told(report)
    assert list(only(package)().to_graph()) == ["1"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda graph: {"prompt": graph, "client_id": "x"},
        lambda graph: {"input": {"workflow": graph}},
        lambda graph: {"input": {"prompt": graph}},
        lambda graph: {"workflow": graph},
    ],
)
def test_06_request_envelopes_are_unwrapped(made: Any, wrap: Any) -> None:
    graph = {"1": node("A", x=1)}
    report, package = made({"a.json": wrap(graph)})
    assert not report.problems
    assert only(package)().to_graph() == graph


@pytest.mark.parametrize(
    "saved",
    [
        {"nodes": [], "links": [], "version": 0.4},
        {"id": "x", "nodes": [{"id": 1}], "links": [], "definitions": {"subgraphs": [{}]}},
        {"workflow": {"nodes": [{"id": 1}], "links": []}},
    ],
)
def test_07_the_format_of_the_page_is_refused_in_one_line(folder: Any, saved: object) -> None:
    report = folder({"a.json": saved}).generate()
    (problem,) = report.errors
    assert str(problem).startswith("a.json: this is the format that ComfyUI saves for itself")
    assert "Export (API)" in str(problem)


def test_08_broken_json_tells_line_and_column_and_the_others_generate(folder: Any) -> None:
    report = folder({"bad.json": '{"1":\n  oops}', "good.json": {"1": node("A")}}).generate()
    assert "bad.json: line 2, column 3" in told(report)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "written"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_09_marks_ends_of_line_and_encodings(made: Any, encoding: str) -> None:
    graph = {"1": node("A", "图像", text="x\r\ny")}
    text = json.dumps(graph, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    report, package = made({"a.json": text.encode(encoding)})
    assert not report.errors
    assert only(package)().to_graph() == graph


def test_10_a_key_that_comes_twice_loses_no_node_in_silence(folder: Any) -> None:
    text = '{"1": {"inputs": {}, "class_type": "A"}, "1": {"inputs": {}, "class_type": "B"}}'
    report = folder({"a.json": text}).generate()
    assert "a.json: the key '1' comes twice" in told(report)
    assert report.errors


def test_11_an_empty_graph_is_refused_and_one_without_output_warns(folder: Any) -> None:
    no_end = {"1": node("KSampler", seed=1, steps=2, model=["1", 0])}
    made = folder({"empty.json": {}, "endless.json": no_end, "object_info.json": SCHEMAS})
    report = made.generate()
    assert "empty.json: there is no node in it" in told(report)
    assert "warning: endless.json: no node gives a result" in told(report)


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
def test_12_a_malformed_node_is_named(folder: Any, wrong: object) -> None:
    report = folder({"a.json": {"1": node("A"), "65:3": wrong}}).generate()
    (problem,) = report.errors
    assert (problem.file, problem.node) == ("a.json", "65:3")


# --- names ---------------------------------------------------------------------------------------


def test_13_duplicate_titles_get_their_ids_and_nobody_else_is_renamed(made: Any) -> None:
    _, package = made({"a.json": UGLY["duplicate titles"]})
    assert list(fields(package)) == [
        "clip_text_encode_prompt_6_text",
        "clip_text_encode_prompt_7_text",
    ]
    more = {**UGLY["duplicate titles"], "11": node("Other", "Other", x=1)}
    _, again = made({"a.json": more})
    assert list(fields(again)) == [*fields(package), "other_x"]


def test_14_titles_that_are_equal_as_names_only(made: Any) -> None:
    _, package = made({"a.json": UGLY["signs"]})
    assert list(fields(package)) == ["cn_plus_width", "cn_minus_width", "frames_3_n", "frames_4_n"]


def test_15_titles_in_any_script_stay_readable(made: Any) -> None:
    _, package = made({"a.json": UGLY["scripts"]})
    assert list(fields(package)) == [
        "加载图像_image",
        "ポジティブ_プロンプト_text",
        "text_3_text",  # wide letters are those of node 6 without a title that can be a name
        "промпт_no1_text",
        "مرحبا_text",
        "text_6_text",
    ]


def test_16_a_title_without_letters_gives_way_to_the_class(made: Any) -> None:
    _, package = made({"a.json": {"1": node("ShowText|pysssss", "🔧 ~ ✨", text="x")}})
    assert list(fields(package)) == ["show_text_pysssss_text"]


def test_17_titles_like_code_are_texts_and_no_template_expands_them(made: Any) -> None:
    _, package = made({"a.json": UGLY["titles like code"]})
    cls = only(package)
    source = Path(sys.modules[cls.__module__].__file__ or "").read_text("utf-8")
    assert "{{ title }} {% raise %} %seed%" in source
    assert cls().node_4x_upscale_braces_quotes_more_x == 1


def test_18_titles_that_are_keywords_or_methods(made: Any) -> None:
    graph = {
        str(n): {"inputs": {"": 1}, "class_type": "A", "_meta": {"title": title}}
        for n, title in enumerate(["for", "run", "self", "build", "to_graph", "None"])
    }
    _, package = made({"a.json": graph})
    assert list(fields(package)) == [
        *("for_input", "run_input", "self_input"),
        *("build_input", "to_graph_input", "none_input"),
    ]
    ends = {str(n): node("SaveImage", title) for n, title in enumerate(["for", "seed", "ui"])}
    _, package = made({"b.json": ends})
    assert [spec.name for spec in only(package).__workflow__.outputs] == ["for_", "seed_", "ui_"]


def test_19_nodes_without_titles_take_their_class(made: Any) -> None:
    _, package = made({"a.json": UGLY["no meta"]})
    assert list(fields(package)) == ["k_sampler_seed", "k_sampler_steps", "named_seed", "extra_x"]
    assert [spec.name for spec in only(package).__workflow__.outputs] == [
        *("save_image_3", "save_image_4", "extra")
    ]


def test_20_names_are_bounded(made: Any) -> None:
    graph = {
        str(n): {
            "inputs": {"very " * 50: n},
            "class_type": "B" * 99,
            "_meta": {"title": "a b " * 99},
        }
        for n in range(3)
    }
    _, package = made({"a.json": graph, f"{'long ' * 40}.json": graph})
    for cls in workflows(package).values():
        assert all(len(spec.name) <= 60 for spec in cls.__workflow__.inputs)
        assert len(cls.__name__) <= 60


def test_21_inputs_that_are_keywords_stay_exact_in_the_graph(made: Any) -> None:
    binding = '[inputs.class_]\nto = ["A.class"]\n[inputs.in_]\nto = ["A.in"]\n'
    graph = {"1": named("A", {"class": "x", "in": 3})}
    _, package = made({"a.json": graph, "a.toml": binding})
    sent = only(package)(class_="y", in_=4).to_graph()
    assert sent["1"]["inputs"] == {"class": "y", "in": 4}


def test_22_inputs_that_are_no_identifiers(made: Any) -> None:
    _, package = made({"a.json": UGLY["input names"]})
    names = {spec.targets[0].input: name for name, spec in fields(package).items()}
    assert names["input_blocks.0"] == "merge_input_blocks_0"
    assert names["out."] == "merge_out"
    assert names["\u2795 Add Lora"] == "merge_add_lora"
    assert names["1"] == "merge_1"
    assert {names["*"], names[""]} == {"merge_1_input_6", "merge_1_input_18"}


def test_23_dotted_names_are_names_and_no_paths(made: Any) -> None:
    graph = {"1": named("A", {"a.b": 1, "a_b": 2, "a b": 3})}
    _, package = made({"a.json": graph})
    first, second, third = fields(package)
    cls = only(package)
    sent = cls(**{first: 10, second: 20, third: 30}).to_graph()
    assert sent["1"]["inputs"] == {"a.b": 10, "a_b": 20, "a b": 30}


def test_24_names_of_builtins_hide_nothing(made: Any) -> None:
    inputs = {"format": "png", "type": "a", "min": 0, "str": "s", "bool": True, "int": 1.5}
    binding = "\n".join(f"[inputs.{name}]\nto = ['A.{name}']" for name in inputs if name != "str")
    binding = binding.replace("inputs.bool", "inputs.bool_").replace("inputs.int", "inputs.int_")
    _, package = made({"a.json": {"1": named("A", inputs)}, "a.toml": binding})
    assert only(package)(format="jpg", min=2).to_graph()["1"]["inputs"]["format"] == "jpg"


def test_25_names_that_differ_in_case_only(folder: Any) -> None:
    made = folder({"a.json": {"1": named("A", {"Case": 1, "case": 2})}})
    made.generate()
    assert list(fields(made.module())) == ["a_1_case_1", "a_1_case_2"]
    report = folder({"Flow.json": {"1": node("A")}, "flow.json": {"1": node("A")}}).generate()
    assert "Flow.json: flow.json would be the module 'flow' too" in told(report)


def test_26_names_from_any_name_of_a_file(folder: Any) -> None:
    graph = {"1": node("A", x=1)}
    names = ["workflow_api(4)", "图像生成", "3d", "class", "a.b.c", "-", "\uff37\uff29\uff24\uff25"]
    made = folder({f"{name}.json": graph for name in names})
    report = made.generate()
    assert not report.errors, told(report)
    assert {outcome.workflow for outcome in report.outcomes} == {
        *("WorkflowApi4Workflow", "图像生成Workflow", "The3dWorkflow", "ClassWorkflow"),
        *("ABCWorkflow", "MinusWorkflow", "WideWorkflow"),
    }
    clash = folder({"a b.json": graph, "a-b.json": graph}).generate()
    assert "a b.json: a-b.json would be the module 'a_b' too" in told(clash)


def test_27_class_types_are_exact_in_the_graph(made: Any) -> None:
    graph = UGLY["class types"]
    _, package = made({"a.json": graph})
    sent = only(package)().to_graph()
    assert [each["class_type"] for each in sent.values()] == [
        each["class_type"] for each in graph.values()
    ]


def test_28_importing_runs_nothing_and_writes_nothing_of_the_file(
    folder: Any, tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"
    evil = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    texts = [evil, f'"""\n{evil}\n"""', f"'''{evil}", f"{{{{ {evil} }}}}", f"\\\n{evil}"]
    graph = {
        f"{n}": {"inputs": {text: text}, "class_type": text, "_meta": {"title": text}}
        for n, text in enumerate(texts)
    }
    made = folder({"evil.json": graph})
    before = set(tmp_path.rglob("*"))
    report = made.generate()
    assert not report.errors
    assert is_same(only(made.module())().to_graph(), graph)
    assert not mark.exists()
    written = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(made.out) for path in written)


# --- ids and links -------------------------------------------------------------------------------


def test_29_to_31_ids_stay_texts_in_their_order(made: Any) -> None:
    graph = UGLY["ids"]
    _, package = made({"a.json": graph})
    assert list(only(package)().to_graph()) == list(graph)
    by_node = {spec.node: name for name, spec in fields(package).items()}
    assert by_node == {
        "65:33:11": "group_x",
        "012": "octal_012_x",
        "12": "octal_12_x",
        "LoadImage": "load_image_image",
        "-1": "negative_x",
    }
    sent = only(package)(octal_012_x=5, group_x=6).to_graph()
    assert (sent["012"]["inputs"]["x"], sent["12"]["inputs"]["x"]) == (5, 1)
    assert sent["65:33:11"]["inputs"]["x"] == 6
    binding = '[inputs.one]\nto = [{ node = { id = "a.b" }, input = "x" }]\ndefault = 3\n'
    _, package = made({"b.json": graph, "b.toml": binding})
    assert only(package)(one=4).to_graph()["a.b"]["inputs"]["x"] == 4


def test_32_a_dangling_link_warns_and_is_an_error_before_anything_is_sent(made: Any) -> None:
    graph = {"1": node("A", x=["9", 0])}
    report, package = made({"a.json": graph})
    assert "node 1: input 'x' links to node '9', which is not there" in told(report)
    assert only(package)().to_graph() == graph
    with pytest.raises(GraphError, match="node 9, which is not there"):
        check_graph(only(package)().to_graph())


def test_33_a_list_that_a_caller_sets_is_a_value_and_no_link(made: Any) -> None:
    _, package = made({"a.json": UGLY["values"]})
    cls = only(package)
    assert cls().lists_a == [1, 2]
    for given in (["1", 0], ("1", 0)):
        sent = cls(lists_a=given).to_graph()
        assert sent["6"]["inputs"]["a"] == {"__value__": ["1", 0]}
    assert sent["6"]["inputs"]["c"] == {"__value__": 3}


def test_34_and_35_slots_and_lists_of_links_stay(made: Any) -> None:
    _, package = made({"a.json": UGLY["links"]})
    assert fields(package) == {}
    assert is_same(only(package)().to_graph(), UGLY["links"])


def test_36_circles_do_not_hang(made: Any) -> None:
    ring = {str(n): node("A", x=[str((n + 1) % 50), 0]) for n in range(50)}
    report, package = made({"a.json": ring})
    assert not report.errors
    assert is_same(only(package)().to_graph(), ring)


def test_37_a_value_for_an_input_that_is_linked_cuts_the_link(made: Any) -> None:
    graph = {"1": node("Text", "PROMPT", value="x"), "2": node("Encode", "CLIP", text=["1", 0])}
    binding = '[inputs.text]\nrequired = true\nto = ["CLIP.text"]\n'
    report, package = made({"a.json": graph, "a.toml": binding})
    assert "is linked to node 1 (Text, 'PROMPT'); a value cuts the link" in told(report)
    assert only(package)(text="y").to_graph()["2"]["inputs"]["text"] == "y"


def test_38_five_thousand_nodes_in_a_row(made: Any) -> None:
    graph = {str(n): node("Step", x=n, before=[str(n - 1), 0]) for n in range(1, 5000)}
    graph["0"] = node("Step", x=0)
    begun = time.monotonic()
    report, package = made({"a.json": graph})
    assert not report.errors
    assert is_same(only(package)().to_graph(), graph)
    assert time.monotonic() - begun < 60  # some seconds: no depth of recursion, no square


# --- values --------------------------------------------------------------------------------------


def test_39_large_integers_are_exact(made: Any) -> None:
    _, package = made({"a.json": UGLY["values"]})
    sent = only(package)(seed_seed=2**64 - 1, seed_noise_seed=0).to_graph()
    assert sent["1"]["inputs"]["seed"] == 2**64 - 1
    assert sent["1"]["inputs"]["noise_seed"] == 0
    assert only(package)().to_graph()["1"]["inputs"]["big"] == 2**70


def test_40_a_whole_number_may_be_a_float_and_stays_whole_untouched(made: Any) -> None:
    _, package = made({"a.json": UGLY["values"], "object_info.json": SCHEMAS})
    cls = only(package)
    assert json.dumps(cls().to_graph()["2"]["inputs"]["a"]) == "8"
    assert cls(numbers_a=0.5).to_graph()["2"]["inputs"]["a"] == 0.5
    kinds = {name: spec.kind for name, spec in fields(package).items()}
    assert (kinds["numbers_e"], kinds["numbers_g"]) == ("flag", "number")
    with pytest.raises(Exception, match="a number is expected, not bool"):
        cls(numbers_g=True)
    with pytest.raises(Exception, match="True or False is expected"):
        cls(numbers_e=1)


def test_41_null_is_of_any_type(made: Any) -> None:
    _, package = made({"a.json": UGLY["values"]})
    cls = only(package)
    assert fields(package)["nothing_a"].kind == "value"
    for value in (None, 3, "x", {"y": [1]}):
        assert cls(nothing_a=value).to_graph()["3"]["inputs"]["a"] == value


def test_42_the_state_of_buttons_is_no_public_noise(made: Any) -> None:
    _, package = made({"a.json": UGLY["values"]})
    public = {spec.targets[0] for spec in fields(package).values()}
    names = {target.input for target in public}
    assert not names & {"upload", "choose file to upload", "control_after_generate"}
    assert is_same(only(package)().to_graph(), UGLY["values"])


def test_43_objects_can_be_set_and_are_copied(made: Any) -> None:
    _, package = made({"a.json": UGLY["values"]})
    cls = only(package)
    given = {"on": False, "s": [1]}
    one = cls(nothing_c=given)
    one.to_graph()["3"]["inputs"]["c"]["s"].append(2)
    assert one.to_graph()["3"]["inputs"]["c"] == {"on": False, "s": [1]}
    cls().nothing_c["s"].append(3)
    assert is_same(cls().to_graph(), UGLY["values"])


def test_44_texts_of_any_kind_and_length_are_exact(made: Any) -> None:
    graph = copy.deepcopy(UGLY["values"])
    graph["5"]["inputs"]["long"] = "ab\n'\"\\" * 200_000
    _, package = made({"a.json": graph})
    assert is_same(only(package)().to_graph(), graph)


def test_45_placeholders_are_texts(made: Any) -> None:
    _, package = made({"a.json": UGLY["titles like code"]})
    assert only(package)().to_graph()["3"]["inputs"]["x"] == "{{STEPS}} %date%"


def test_46_paths_in_values_are_never_read(
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    graph = {"1": node("LoadImage", image=str(secret)), "2": node("Load", path=str(secret))}
    made = folder({"a.json": graph})
    opened: list[str] = []
    really = io.open

    def watched(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return really(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", watched)
    made.generate()
    workflow = only(made.module())()
    workflow.to_graph()
    assert read_files(workflow) == {}
    assert opened
    assert str(secret) not in opened


def test_47_a_required_input_that_the_export_lacks_warns(folder: Any) -> None:
    graph = {"1": node("KSampler", seed=1, model=["1", 0])}
    report = folder({"a.json": graph, "object_info.json": SCHEMAS}).generate()
    assert "warning: a.json: node 1: KSampler requires an input 'steps'" in told(report)


# --- schemas -------------------------------------------------------------------------------------


def test_56_long_lists_missing_classes_and_models_that_are_not_there(made: Any) -> None:
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
    report, package = made({"a.json": graph, "object_info.json": schemas})
    assert not report.problems, told(report)
    kinds = {name: spec.kind for name, spec in fields(package).items()}
    assert kinds["many_font"] == kinds["many_model"] == "text"
    assert kinds["many_mode"] == "choice"
    source = Path(sys.modules[only(package).__module__].__file__ or "").read_text("utf-8")
    assert "font 2999" not in source


def test_a_batch_of_files_generates_the_same_on_several_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    for number in range(150):
        graph = {"1": node("A", f"Title {number}", x=number)}
        (folder / f"flow_{number}.json").write_text(json.dumps(graph), "utf-8")
    code = (
        "import sys; from comfyloom_codegen import generate, generate_module; "
        "generate_module._processors = lambda: 3; generate(*sys.argv[1:]);"
        "assert 'multiprocessing' in sys.modules"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "forked"), "flows"]
    subprocess.run(command, check=True, timeout=60)
    monkeypatch.setattr("comfyloom_codegen.generate_module._processors", lambda: 1)
    report = generate(folder, tmp_path / "here", "flows")
    assert len(report.outcomes) == 150
    for path in (tmp_path / "here" / "flows").glob("*.*"):
        assert path.read_bytes() == (tmp_path / "forked" / "flows" / path.name).read_bytes()
