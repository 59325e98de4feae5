"""Unusual titles, inputs, node types and files: readable names, exact graphs."""

from __future__ import annotations

import sys
from pathlib import Path

from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    input_specs,
    is_same_json,
    only_class,
    problem_text,
    workflow_classes,
)
from ugly import UGLY, named, node


def test_duplicate_titles_get_their_ids_and_other_nodes_keep_their_names(
    generate_package: GeneratePackage,
) -> None:
    _, package = generate_package({"a.json": UGLY["duplicate titles"]})
    assert list(input_specs(package)) == [
        "clip_text_encode_prompt_6_text",
        "clip_text_encode_prompt_7_text",
    ]
    more = {**UGLY["duplicate titles"], "11": node("Other", "Other", x=1)}
    _, again = generate_package({"a.json": more})
    assert list(input_specs(again)) == [*input_specs(package), "other_x"]


def test_titles_that_only_collide_as_names_are_distinct(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["signs"]})
    assert list(input_specs(package)) == [
        "cn_plus_width",
        "cn_minus_width",
        "frames_3_n",
        "frames_4_n",
    ]


def test_titles_in_any_script_stay_readable(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["scripts"]})
    assert list(input_specs(package)) == [
        "加载图像_image",
        "ポジティブ_プロンプト_text",
        "text_3_text",  # in NFKC its title equals the node type of node 6
        "промпт_no1_text",
        "مرحبا_text",
        "text_6_text",
    ]


def test_a_title_without_letters_is_replaced_by_the_node_type(
    generate_package: GeneratePackage,
) -> None:
    _, package = generate_package({"a.json": {"1": node("ShowText|pysssss", "🔧 ~ ✨", text="x")}})
    assert list(input_specs(package)) == ["show_text_pysssss_text"]


def test_titles_like_code_are_texts_and_are_not_expanded_by_templates(
    generate_package: GeneratePackage,
) -> None:
    _, package = generate_package({"a.json": UGLY["titles like code"]})
    cls = only_class(package)
    source = Path(sys.modules[cls.__module__].__file__ or "").read_text("utf-8")
    assert "{{ title }} {% raise %} %seed%" in source
    assert cls().node_4x_upscale_braces_quotes_more_x == 1


def test_titles_that_are_keywords_or_methods_give_legal_names(
    generate_package: GeneratePackage,
) -> None:
    graph = {
        str(n): {"inputs": {"": 1}, "class_type": "A", "_meta": {"title": title}}
        for n, title in enumerate(["for", "run", "self", "build", "to_graph", "None"])
    }
    _, package = generate_package({"a.json": graph})
    assert list(input_specs(package)) == [
        *("for_input", "run_input", "self_input"),
        *("build_input", "to_graph_input", "none_input"),
    ]
    ends = {str(n): node("SaveImage", title) for n, title in enumerate(["for", "seed", "ui"])}
    _, package = generate_package({"b.json": ends})
    assert [spec.name for spec in only_class(package).__workflow__.outputs] == [
        "for_",
        "seed_",
        "ui_",
    ]


def test_nodes_without_titles_are_named_by_their_type(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["no meta"]})
    assert list(input_specs(package)) == [
        "k_sampler_seed",
        "k_sampler_steps",
        "named_seed",
        "extra_x",
    ]
    assert [spec.name for spec in only_class(package).__workflow__.outputs] == [
        *("save_image_3", "save_image_4", "extra")
    ]


def test_names_have_a_maximum_length(generate_package: GeneratePackage) -> None:
    graph = {
        str(n): {
            "inputs": {"very " * 50: n},
            "class_type": "B" * 99,
            "_meta": {"title": "a b " * 99},
        }
        for n in range(3)
    }
    _, package = generate_package({"a.json": graph, f"{'long ' * 40}.json": graph})
    for cls in workflow_classes(package).values():
        assert all(len(spec.name) <= 60 for spec in cls.__workflow__.inputs)
        assert len(cls.__name__) <= 60


def test_inputs_that_are_keywords_are_exact_in_the_graph(generate_package: GeneratePackage) -> None:
    binding = '[inputs.class_]\nto = ["A.class"]\n[inputs.in_]\nto = ["A.in"]\n'
    graph = {"1": named("A", {"class": "x", "in": 3})}
    _, package = generate_package({"a.json": graph, "a.toml": binding})
    sent = only_class(package)(class_="y", in_=4).to_graph()
    assert sent["1"]["inputs"] == {"class": "y", "in": 4}


def test_inputs_that_are_not_identifiers_get_names(generate_package: GeneratePackage) -> None:
    _, package = generate_package({"a.json": UGLY["input names"]})
    names = {spec.targets[0].input: name for name, spec in input_specs(package).items()}
    assert names["input_blocks.0"] == "merge_input_blocks_0"
    assert names["out."] == "merge_out"
    assert names["\u2795 Add Lora"] == "merge_add_lora"
    assert names["1"] == "merge_1"
    assert {names["*"], names[""]} == {"merge_1_input_6", "merge_1_input_18"}


def test_dotted_input_names_are_not_paths(generate_package: GeneratePackage) -> None:
    graph = {"1": named("A", {"a.b": 1, "a_b": 2, "a b": 3})}
    _, package = generate_package({"a.json": graph})
    first, second, third = input_specs(package)
    cls = only_class(package)
    sent = cls(**{first: 10, second: 20, third: 30}).to_graph()
    assert sent["1"]["inputs"] == {"a.b": 10, "a_b": 20, "a b": 30}


def test_inputs_named_like_builtins_hide_nothing(generate_package: GeneratePackage) -> None:
    inputs = {"format": "png", "type": "a", "min": 0, "str": "s", "bool": True, "int": 1.5}
    binding = "\n".join(f"[inputs.{name}]\nto = ['A.{name}']" for name in inputs if name != "str")
    binding = binding.replace("inputs.bool", "inputs.bool_").replace("inputs.int", "inputs.int_")
    _, package = generate_package({"a.json": {"1": named("A", inputs)}, "a.toml": binding})
    assert only_class(package)(format="jpg", min=2).to_graph()["1"]["inputs"]["format"] == "jpg"


def test_names_that_differ_only_in_case_are_distinct_or_refused(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": {"1": named("A", {"Case": 1, "case": 2})}})
    workspace.generate()
    assert list(input_specs(workspace.module())) == ["a_1_case_1", "a_1_case_2"]
    report = make_workspace(
        {"Flow.json": {"1": node("A")}, "flow.json": {"1": node("A")}}
    ).generate()
    assert "Flow.json: flow.json would be the module 'flow' too" in problem_text(report)


def test_any_file_name_gives_a_class_name(make_workspace: MakeWorkspace) -> None:
    graph = {"1": node("A", x=1)}
    names = ["workflow_api(4)", "图像生成", "3d", "class", "a.b.c", "-", "\uff37\uff29\uff24\uff25"]
    workspace = make_workspace({f"{name}.json": graph for name in names})
    report = workspace.generate()
    assert not report.errors, problem_text(report)
    assert {outcome.workflow for outcome in report.outcomes} == {
        *("WorkflowApi4Workflow", "图像生成Workflow", "The3dWorkflow", "ClassWorkflow"),
        *("ABCWorkflow", "MinusWorkflow", "WideWorkflow"),
    }
    clash = make_workspace({"a b.json": graph, "a-b.json": graph}).generate()
    assert "a b.json: a-b.json would be the module 'a_b' too" in problem_text(clash)


def test_node_types_are_exact_in_the_graph(generate_package: GeneratePackage) -> None:
    graph = UGLY["class types"]
    _, package = generate_package({"a.json": graph})
    sent = only_class(package)().to_graph()
    assert [each["class_type"] for each in sent.values()] == [
        each["class_type"] for each in graph.values()
    ]


def test_importing_runs_nothing_and_writes_nothing_outside_the_package(
    make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"
    evil = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    texts = [evil, f'"""\n{evil}\n"""', f"'''{evil}", f"{{{{ {evil} }}}}", f"\\\n{evil}"]
    graph = {
        f"{n}": {"inputs": {text: text}, "class_type": text, "_meta": {"title": text}}
        for n, text in enumerate(texts)
    }
    workspace = make_workspace({"evil.json": graph})
    before = set(tmp_path.rglob("*"))
    report = workspace.generate()
    assert not report.errors
    assert is_same_json(only_class(workspace.module())().to_graph(), graph)
    assert not mark.exists()
    written = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(workspace.out) for path in written)
