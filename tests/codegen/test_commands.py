"""`comfyloom codegen` in a project: where things are, and what its commands do."""

from __future__ import annotations

import ast
import importlib
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyloom._workflow.inputs import Kind
from comfyloom._workflow.outputs import OutputKind
from comfyloom.errors import ConfigError, GraphError, WorkflowError, exit_code
from comfyloom_codegen.bindings import entries as binding
from comfyloom_codegen.cli import codegen
from comfyloom_codegen.project import Project
from comfyloom_codegen.reading.files import only_source
from comfyloom_codegen.reading.schemas import Pinned
from comfyloom_codegen.scaffold.binding import starting_binding
from comfyloom_codegen.schema_pins import pin, pinned_class
from comfyloom_codegen.verifying import verify
from support import ROOT
from ugly import UGLY, node

FLUX = ROOT / "workflows" / "generate_flux_mesh.json"


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(codegen, [str(each) for each in arguments])


# --- [tool.comfyloom.codegen] --------------------------------------------------------------------


def test_without_a_project_the_defaults_hold(tmp_path: Path) -> None:
    assert Project.read(tmp_path) == Project()


def test_the_nearest_pyproject_says_where_things_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.json").write_text(json.dumps({"1": node("A", x=1)}), "utf-8")
    text = '[tool.comfyloom.codegen]\nworkflows = "flows"\nout = "src"\npackage = "mine"\n'
    (tmp_path / "pyproject.toml").write_text(text, "utf-8")
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Project.read(below) == Project(
        workflows=Path("../../flows"), out=Path(".."), package="mine"
    )
    assert "a.json → AWorkflow" in run().output
    assert (tmp_path / "src" / "mine" / "a.py").is_file()
    assert run("--check").exit_code == 0
    assert run("--package", "other", "--check").exit_code == 1  # what is given counts


def test_options_belong_behind_their_command(folder: Any) -> None:
    made = folder({"a.json": {"1": node("A")}})
    done = run("--json", "inspect", made.workflows / "a.json")
    assert done.exit_code == 2  # click's own; the command line of the SDK makes it 64
    assert "--json belongs behind inspect" in done.output
    assert "is a folder: the path of a workflow file" in str(
        run("inspect", made.workflows).exception
    )
    missing = run("--workflows", made.workflows / "none").exception
    assert "[tool.comfyloom.codegen] in pyproject.toml says where they are" in str(missing)


@pytest.mark.parametrize("package", ["json", "comfyloom", "class", "../x"])
def test_a_package_that_would_hide_another_is_refused(folder: Any, package: str) -> None:
    made = folder({"a.json": {"1": node("A")}})
    done = run("--workflows", made.workflows, "--out", made.out, "--package", package)
    assert exit_code(done.exception) == 78
    assert not made.out.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[tool.comfyloom.codgen]\nout = 'x'", "unknown table tool.comfyloom.codgen; did you mean"),
        ("x = ", "pyproject.toml cannot be read"),
        ("[tool.comfyloom]\ncodegen = 3", "tool.comfyloom.codegen is no table"),
        ('[tool.comfyloom.codegen]\npackge = "x"', "unknown key 'packge'; did you mean 'package'?"),
        ("[tool.comfyloom.codegen]\nout = 3", "tool.comfyloom.codegen.out: a text is expected"),
        ('[tool.comfyloom.codegen]\nout = ""', "codegen.out: a text is expected"),
    ],
)
def test_a_wrong_table_is_a_clear_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        Project.read(tmp_path)
    assert reason in str(caught.value)
    assert exit_code(caught.value) == 78


# --- init ----------------------------------------------------------------------------------------


def test_init_guesses_what_people_set_and_get(folder: Any) -> None:
    made = folder({"flux.json": FLUX.read_text("utf-8")})
    done = run("init", made.workflows / "flux.json")
    assert done.exit_code == 0
    assert "flux.toml written: 12 inputs, 2 results" in done.output
    assert not made.generate().problems
    cls = made.module().FluxWorkflow
    specs = {spec.name: spec for spec in cls.__workflow__.inputs}
    assert [name for name, spec in specs.items() if spec.required] == ["input_image", "prompt"]
    assert [to.input for to in specs["prompt"].targets] == ["clip_l", "t5xxl"]
    assert {to.node for to in specs["negative_prompt"].targets} == {"19"}
    assert {to.node for to in specs["seed"].targets} == {"3", "32"}
    assert [spec.name for spec in cls.__workflow__.outputs] == ["image", "mesh"]


def test_init_follows_prompts_through_nodes_that_hold_texts(folder: Any) -> None:
    graph = {
        "1": node("PrimitiveString", "WORDS", value="a cat"),
        "2": node("CLIPTextEncode", text=["1", 0]),
        "3": node("ControlNetApply", conditioning=["2", 0]),
        "4": node("ConditioningZeroOut", conditioning=["2", 0]),
        "5": node("KSampler", seed=1, steps=5, positive=["3", 0], negative=["4", 0]),
        "6": node("SaveImage", images=["5", 0]),
        "7": node("PreviewImage", images=["5", 0]),
    }
    made = folder({"a.json": graph})
    text = run("init", made.workflows / "a.json", "--print").output
    assert 'to = ["WORDS.value"]' in text
    assert "negative_prompt" not in text  # what is zeroed out is none
    assert not (made.workflows / "a.toml").exists()
    assert list(tomllib.loads(text)["results"]) == ["image"]


def test_init_writes_over_nothing(folder: Any) -> None:
    made = folder({"a.json": UGLY["values"], "a.toml": 'class = "Mine"\n'})
    refused = run("init", made.workflows / "a.json")
    assert exit_code(refused.exception) == 73
    assert "is there already" in str(refused.exception)
    assert (made.workflows / "a.toml").read_text("utf-8") == 'class = "Mine"\n'
    assert run("init", made.workflows / "a.json", "--force").exit_code == 0
    assert exit_code(run("init", made.workflows / "b.json").exception) == 66
    (made.workflows / "c.json").write_text('{"nodes": []}', "utf-8")
    assert exit_code(run("init", made.workflows / "c.json").exception) == 65


@pytest.mark.parametrize("name", UGLY)
def test_init_makes_a_binding_that_generates_for_any_graph(folder: Any, name: str) -> None:
    made = folder({f"{name}.json": UGLY[name]})
    assert run("init", made.workflows / f"{name}.json").exit_code == 0
    report = made.generate()
    assert not report.errors, report.errors
    # What is commented out can be uncommented, all of it.
    path = made.workflows / f"{name}.toml"
    head, mark, more = path.read_text("utf-8").partition(" more ")
    lines = [line.removeprefix("# ") for line in more.splitlines()[1:]]
    path.write_text(f"{head}{mark}\n" + "\n".join(lines), "utf-8")
    report = made.generate()
    assert not report.errors, report.errors


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_shows_nodes_inputs_links_names_and_hazards() -> None:
    output = run("inspect", FLUX).output
    lines = output.splitlines()
    (prompt,) = [line for line in lines if "POSITIVECLIP" in line]
    assert prompt.split()[:4] == ["34", "CLIPTextEncodeFlux", "POSITIVECLIP", "clip_l"]
    assert prompt.endswith(" prompt")
    assert any(line.strip().startswith("model") and "← 10:0" in line for line in lines)
    assert "generate_flux_mesh.json: 18 nodes → FluxMeshWorkflow" in output


def test_inspect_tells_hazards(folder: Any) -> None:
    graph = {
        **UGLY["duplicate titles"],
        "20": node("Seed", seed=2**60, upload="x"),
        "21": node("A", x=["22", 0]),
        "22": node("A", x=["21", 0]),
    }
    made = folder({"a.json": graph})
    told = json.loads(run("inspect", made.workflows / "a.json", "--json").output)
    hazards = "\n".join(told["hazards"])
    for expected in (
        "2 nodes have the title 'Save Image'",
        "nodes 21 → 22 → 21 wait for each other",
        "node 21 (A) is needed by no output node",
        "node 20: input 'seed' is beyond 2^53",
        "node 20: input 'upload' is state of ComfyUI's page",
        "no node schemas are pinned",
    ):
        assert expected in hazards
    assert told["nodes"][0]["inputs"][0] == {
        "name": "text",
        "value": "a",
        "link": "",
        "public": "clip_text_encode_prompt_6_text",
    }


def test_inspect_judges_by_the_schemas(folder: Any) -> None:
    graph = {"1": node("K", steps=500, mode="fats", model=["2", 1]), "2": node("M")}
    inputs = {
        "steps": ["INT", {"max": 100}],
        "mode": [["fast", "slow"]],
        "model": ["MODEL"],
        "more": ["INT"],
    }
    schemas = {
        "K": {"input": {"required": inputs}, "output_node": True},
        "M": {"output": ["MODEL", "CLIP"]},
    }
    made = folder({"a.json": graph, "object_info.json": schemas})
    output = run("inspect", made.workflows / "a.json").output
    assert "! node 1 (K), steps: 500 is more than 100" in output
    assert "! node 1 (K), mode: 'fats' is none of fast, slow; did you mean 'fast'?" in output
    assert "! node 1 (K), model: it takes MODEL, and node 2 gives CLIP" in output
    assert "! node 1 (K), more: the server requires this input" in output
    graph["3"] = node("NotPinned", x=["1", 0])
    made.write({"a.json": graph})
    output = run("inspect", made.workflows / "a.json").output
    assert "! not pinned, so guessed: NotPinned (comfyloom codegen schemas)" in output


def test_what_steers_a_terminal_is_spelled_out(folder: Any) -> None:
    evil = "\x1b[2J\x1b]0;x\x07"
    graph = {"1": {"inputs": {evil: evil}, "class_type": evil, "_meta": {"title": f"{evil}t"}}}
    made = folder({"a.json": graph})
    for command in (["inspect", made.workflows / "a.json"], ["--workflows", made.workflows]):
        out = ["--out", made.out] if command[0] == "--workflows" else []
        assert "\x1b" not in run(*command, *out).output


# --- schemas -------------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "LoadImage": {
        "input": {"required": {"image": [["b.png", "a.png"], {"image_upload": True}]}},
        "output": ["IMAGE"],
        "name": "LoadImage",
        "display_name": "Load Image",
        "description": "loads",
        "category": "image",
    },
    "K": {
        "input": {
            "required": {
                "steps": ["INT", {"min": 1, "max": 9, "tooltip": "many"}],
                "ckpt": [["x.safetensors"]],
                "new": ["COMBO", {"options": ["y.pt"], "tooltip": "z"}],
                "mode": [["fast", "slow"]],
                "any": ["*"],
            }
        },
        "output_node": True,
        "output_tooltips": ["x"],
        "python_module": "custom_nodes.K",
    },
    "Other": {"input": {}},
}


def test_schemas_pins_what_is_in_use_from_a_file(folder: Any, tmp_path: Path) -> None:
    graph = {"1": node("LoadImage", image="x"), "2": node("K", steps=2), "3": node("Gone")}
    before = {"Gone": {"input": {}}, "Unused": {"input": {}}, "K": {"input": {}}}
    made = folder({"a.json": graph, "object_info.json": before})
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(ANSWER), "utf-8")
    done = run("schemas", answer, "--workflows", made.workflows)
    assert done.exit_code == 0, done.exception
    assert "object_info.json: 3 classes pinned" in done.output
    assert "  new: LoadImage\n  changed: K\n  no longer in use, removed: Unused\n" in done.output
    assert "warning: Gone is not known there; what was pinned of it stays" in done.output
    text = (made.workflows / "object_info.json").read_text("utf-8")
    pinned = json.loads(text)
    assert list(pinned) == ["Gone", "K", "LoadImage"]
    assert pinned["K"]["input"]["required"] == {
        "steps": ["INT", {"min": 1, "max": 9}],
        "ckpt": ["COMBO", {}],
        "new": ["COMBO", {}],
        "mode": [["fast", "slow"]],
        "any": ["*"],
    }
    assert pinned["K"]["python_module"] == "custom_nodes.K"
    assert pinned["LoadImage"]["input"]["required"]["image"] == ["COMBO", {"image_upload": True}]
    for word in ("tooltip", "png", "safetensors", "category", "description"):
        assert word not in text
    again = run("schemas", made.workflows / "object_info.json", "--workflows", made.workflows)
    assert "new" not in again.output
    assert "changed" not in again.output
    assert (made.workflows / "object_info.json").read_text("utf-8") == text
    told = json.loads(run("schemas", answer, "--workflows", made.workflows, "--json").stdout)
    assert told["unknown"] == ["Gone"]


def test_schemas_pins_from_a_server(folder: Any) -> None:
    made = folder({"flux.json": FLUX.read_text("utf-8")})
    done = run("schemas", "emulator", "--workflows", made.workflows)
    assert done.exit_code == 0, done.exception
    ours = json.loads((ROOT / "workflows" / "object_info.json").read_text("utf-8"))
    theirs = json.loads((made.workflows / "object_info.json").read_text("utf-8"))
    for each in theirs.values():
        each.pop("python_module", None)
    assert theirs == ours


def test_schemas_stay_while_nobody_can_tell_what_is_in_use(folder: Any, tmp_path: Path) -> None:
    before = {"B": {"input": {}}, "K": {"input": {}}}
    made = folder({"a.json": {"1": node("K")}, "b.json": "{oops", "object_info.json": before})
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(ANSWER), "utf-8")
    done = run("schemas", answer, "--workflows", made.workflows)
    assert exit_code(done.exception) == 65
    assert "b.json: line 1" in str(done.exception)
    assert json.loads((made.workflows / "object_info.json").read_text("utf-8")) == before


def test_schemas_from_nowhere(folder: Any, tmp_path: Path) -> None:
    made = folder({"a.json": {"1": node("A")}})
    where = ("--workflows", made.workflows)
    assert exit_code(run("schemas", tmp_path / "none.json", *where).exception) == 66
    refused = run("schemas", made.workflows / "a.json", *where).exception
    assert "a.json: this is no answer of /object_info" in str(refused)
    (tmp_path / "list.json").write_text("[]", "utf-8")
    assert "a JSON object is expected" in str(
        run("schemas", tmp_path / "list.json", *where).exception
    )
    assert exit_code(run("schemas", "http://127.0.0.1:9/", *where).exception) == 69
    assert exit_code(run("schemas", "x", "--workflows", tmp_path / "none").exception) == 66
    assert not (made.workflows / "object_info.json").exists()


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["input", "required", "options", "x"]), inner)
        ),
        max_leaves=12,
    )
)
def test_no_answer_of_a_server_breaks_the_pinning(raw: Any) -> None:
    kept = pinned_class({"input": {"required": {"x": raw}, "optional": raw}, "output": raw})
    assert pinned_class(kept) == kept
    assert pin(["A"], {"A": raw}, {}).unknown == (() if isinstance(raw, dict) else ("A",))
    Pinned({"A": kept}).node("A")


# --- --verify ------------------------------------------------------------------------------------


def test_verify_imports_and_type_checks(folder: Any) -> None:
    pytest.importorskip("mypy")
    made = folder({"a.json": UGLY["values"]})
    places = ("--workflows", made.workflows, "--out", made.out, "--package", made.package)
    done = run(*places, "--verify")
    assert done.exit_code == 0, done.exception
    assert "imported, and every workflow built\ntype-checked by mypy, strictly" in done.output
    path = made.out / made.package / "a.py"
    path.write_text(path.read_text("utf-8") + "\nx: int = 'no'\n", "utf-8")
    with pytest.raises(WorkflowError, match=r"not right \(mypy\):\n.*Incompatible types"):
        verify(made.out, made.package)
    path.write_text("raise OSError('broken')\n", "utf-8")
    with pytest.raises(WorkflowError, match="not right \\(importing it\\)"):
        verify(made.out, made.package)


DEMANDS = """
[inputs.mode]
choices = ["fast", "slow"]
required = true
to = ["1.mode"]
[inputs.steps]
kind = "integer"
ge = 3
required = true
to = ["1.steps"]
[inputs.on]
kind = "flag"
required = true
to = ["1.on"]
"""


def test_verify_builds_a_workflow_whatever_it_demands(folder: Any) -> None:
    pytest.importorskip("mypy")
    graph = {"1": node("A", mode=["2", 0], steps=["2", 0], on=["2", 0]), "2": node("B")}
    made = folder({"a.json": graph, "a.toml": DEMANDS})
    assert not made.generate().errors
    assert verify(made.out, made.package)


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_verify_is_strict(folder: Any, monkeypatch: pytest.MonkeyPatch, checker: str) -> None:
    pytest.importorskip(checker)
    monkeypatch.setattr("comfyloom_codegen.verifying._CHECKERS", (checker,))
    made = folder({"a.json": UGLY["values"]})
    made.generate()
    verify(made.out, made.package)
    path = made.out / made.package / "a.py"
    path.write_text(path.read_text("utf-8") + "\n\ndef f(x):\n    return x\n", "utf-8")
    with pytest.raises(WorkflowError, match=f"not right \\({checker}\\)"):
        verify(made.out, made.package)


def test_verify_without_a_checker_says_what_is_missing(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install mypy"):
        verify(folder({}).out, "x")


# --- the schema of bindings ----------------------------------------------------------------------


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("binding-schema").output)
    return found


def test_the_schema_knows_what_the_generator_knows() -> None:
    import attrs

    told = schema()
    definitions = told["definitions"]
    for entry, properties in (
        (binding.Binding, told["properties"]),
        (binding.InputEntry, definitions["input"]["properties"]),
        (binding.ResultEntry, definitions["result"]["properties"]),
        (binding.StageEntry, definitions["stage"]["properties"]),
        (binding.TargetEntry, definitions["target"]["anyOf"][1]["properties"]),
        (binding.PartEntry, definitions["part"]["anyOf"][1]["properties"]),
        (binding.Selector, definitions["selector"]["anyOf"][1]["properties"]),
    ):
        names = {field.name.rstrip("_") for field in attrs.fields(entry)} - {"text"}
        assert names == set(properties), entry
    from typing import get_args

    def literals(kind: Any) -> set[str]:
        found: set[str] = set()
        for each in get_args(kind):
            found |= {each} if isinstance(each, str) else literals(each)
        return found

    assert set(definitions["input"]["properties"]["kind"]["enum"]) == literals(Kind)
    assert set(definitions["result"]["properties"]["kind"]["enum"]) == literals(OutputKind)


def test_the_bindings_of_the_project_fit_the_schema(folder: Any) -> None:
    import jsonschema

    validator = jsonschema.Draft7Validator(schema())
    jsonschema.Draft7Validator.check_schema(schema())
    texts = [path.read_text("utf-8") for path in (ROOT / "workflows").glob("*.toml")]
    texts += [
        starting_binding(
            only_source(folder({f"{name}.json": UGLY[name]}).workflows / f"{name}.json"), Pinned({})
        )
        for name in UGLY
    ]
    assert len(texts) > 10
    for text in texts:
        assert not list(validator.iter_errors(tomllib.loads(text)))
    for wrong in ({"clas": "x"}, {"inputs": {"x": {"kind": "text"}}}, {"stages": [{"share": 0}]}):
        assert list(validator.iter_errors(wrong))


# --- other people's projects ---------------------------------------------------------------------


def test_a_package_depends_on_the_sdk_alone_and_names_its_classes(folder: Any) -> None:
    made = folder({"a.json": UGLY["ends"], "b.json": UGLY["values"]})
    made.generate()
    names = made.module().__all__
    assert names == ["AResult", "AWorkflow", "BResult", "BWorkflow"]
    for path in (made.out / made.package).glob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(statement, ast.ImportFrom):
                root = str(statement.module).partition(".")[0]
                assert root in ("comfyloom", "typing", "__future__", made.package)
            elif isinstance(statement, ast.Import):
                assert [alias.name for alias in statement.names] == ["importlib"]


def test_a_package_registers_its_commands_by_entry_point(
    folder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from comfyloom.cli.workflows import workflow_classes

    made = folder({"my flow.json": UGLY["values"]})
    made.generate()
    info = made.out / f"{made.package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {made.package}\nVersion: 1.0\n")
    points = f"[comfyloom.workflows]\n{made.package} = {made.package}\n"
    (info / "entry_points.txt").write_text(points, "utf-8")
    assert str(made.out) in sys.path
    found = workflow_classes()
    assert found["my-flow"] is made.module().MyFlowWorkflow
    assert "flux-mesh" in found
    (made.out / made.package / "broken.py").write_text("def", "utf-8")
    broken = points.replace(f"= {made.package}", f"= {made.package}.broken")
    (info / "entry_points.txt").write_text(broken, "utf-8")
    assert "flux-mesh" in workflow_classes()
    (info / "entry_points.txt").write_text(points.replace(f"= {made.package}", "= gone"), "utf-8")
    importlib.invalidate_caches()
    with caplog.at_level("WARNING"):
        assert "flux-mesh" in workflow_classes()
    assert f"the workflows of {made.package} (entry point gone): No module named" in caplog.text


def test_a_package_that_was_built_without_its_data_says_so(folder: Any) -> None:
    made = folder({"a.json": {"1": node("A")}})
    made.generate()
    workflow = made.module().AWorkflow()
    (made.out / made.package / "a.json").unlink()
    with pytest.raises(GraphError, match=r"was built without its a\.json"):
        workflow.to_graph()


def test_the_hook_of_pre_commit_calls_a_command_that_is_there() -> None:
    import re

    text = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
    assert re.search(r"^- id: comfyloom-codegen$", text, re.MULTILINE)
    (entry,) = re.findall(r"^  entry: comfyloom codegen( --check)?$", text, re.MULTILINE)
    assert run("-h").exit_code == 0
    (pattern,) = re.findall(r"^  files: (.*)$", text, re.MULTILINE)
    for name in ("workflows/a.json", "workflows/a.toml", "flows/b.png", "pyproject.toml"):
        assert re.search(pattern.strip("'"), name)
    assert entry == ""


def test_every_command_has_help_and_docs() -> None:
    page = (ROOT / "docs" / "codegen.md").read_text("utf-8")
    for name, command in codegen.commands.items():
        assert command.help
        assert f"codegen {name}" in page
    for option in ("--check", "--verify", "--force", "--json", "--workflows", "--out", "--package"):
        assert option in run("-h").output


def test_the_command_line_costs_little() -> None:
    heavy = {"jinja2", "cattrs", "tomlkit", "rich", "requests", "sqlalchemy"}
    code = (
        "import sys, comfyloom_codegen.cli;"
        f"assert not {heavy!r} & set(sys.modules), sorted({heavy!r} & set(sys.modules))"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_fields_may_be_called_as_the_options_of_the_command(folder: Any) -> None:
    from comfyloom.cli.options import build, option

    names = ("workflow", "out", "timeout", "as_json", "help", "given")
    graph = {"1": node("SaveImage", **{f"i_{name}": "x" for name in names})}
    binding = "".join(f"[inputs.{name}]\nto = ['1.i_{name}']\n" for name in names)
    made = folder({"a.json": graph, "a.toml": binding})
    assert not made.generate().errors
    cls = made.module().AWorkflow
    options = [option(cls, spec) for spec in cls.__workflow__.inputs]
    shown = {each.opts[0] for each in options}
    assert {
        "--workflow",
        "--out-value",
        "--timeout-value",
        "--help-value",
        "--as-json",
    } == shown - {"--given"}
    built = build(cls, {each.name: f"new {each.name}" for each in options})
    assert built.out == "new field_out"
