"""Nothing in a workflow file becomes code, whatever it contains."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
    is_same_json,
)
from comfyloom_codegen import Report, generate
from comfyloom_codegen.pycode import docstring, layout, literal

EVIL = [
    '"""; raise SystemExit; """',
    "'''); __import__('os').abort()",
    "\\",
    '\\"""\n\nraise SystemExit',
    "{{ 7 * 7 }}{% raise %}{# x",
    "\u2028raise SystemExit\u2029",
    "\ud800 lone",
    "\x00\x1b[2J\r\n",
    "%seed% ${x} /etc/passwd C:\\Users\\x",
    '"',
    'ends with a quote"',
]

texts = st.one_of(
    st.sampled_from(EVIL),
    st.text(st.characters(), max_size=30),
    st.text(st.sampled_from("\"'\\{}%#\n \ud800\u2028a"), max_size=12),
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
ids = st.one_of(st.from_regex(r"[0-9]{1,3}(:[0-9]{1,2}){0,2}", fullmatch=True), texts)
nodes = st.fixed_dictionaries(
    {"inputs": st.dictionaries(texts, values, max_size=4), "class_type": texts.filter(bool)},
    optional={"_meta": st.fixed_dictionaries({"title": texts})},
)


@given(values)
def test_a_literal_evaluates_to_its_value(value: Any) -> None:
    assert is_same_json(ast.literal_eval(layout(literal(value))), value)


@given(texts)
def test_a_docstring_is_one_constant_with_its_text(text: str) -> None:
    # A lone surrogate is escaped: Python 3.13 refuses a docstring that contains one.
    shown = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    for source in (docstring(text), docstring(f"x{text}", wrap=4)):
        (statement,) = ast.parse(source).body
        assert isinstance(statement, ast.Expr)
        value = ast.literal_eval(source)
        assert value.split() in (shown.split(), f"x{shown}".split())


def generate_from(graph: dict[str, Any]) -> tuple[Report, str | None]:
    """Return the report and the text of the module generated from a graph."""
    with tempfile.TemporaryDirectory() as here:
        source = Path(here, "workflows")
        source.mkdir()
        (source / "a.json").write_text(json.dumps(graph), encoding="utf-8")
        report = generate(source, here, "made")
        if report.errors:
            return report, None
        (module,) = (p for p in Path(here, "made").glob("*.py") if p.name != "__init__.py")
        return report, module.read_text("utf-8")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(ids, nodes, min_size=1, max_size=4))
def test_any_graph_generates_a_module_of_declarations(graph: dict[str, Any]) -> None:
    report, text = generate_from(graph)
    assert text is not None, report.errors
    allowed = (ast.Expr, ast.ImportFrom, ast.ClassDef)
    tree = ast.parse(text)
    assert all(isinstance(statement, allowed) for statement in tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func).split(".")[0] in {
                "inputs",
                "outputs",
                "workflow_class",
                "cls",
            }


@pytest.mark.parametrize("evil", EVIL)
def test_evil_titles_values_names_and_types_are_reproduced(
    generate_package: GeneratePackage, tmp_path: Path, evil: str
) -> None:
    node = {"inputs": {evil: evil, "x": {evil: [evil]}}, "class_type": evil}
    graph = {"1": {**node, "_meta": {"title": evil}}, "2": {**node}}
    report, package = generate_package({"a.json": graph})
    assert not report.errors
    assert is_same_json(package.AWorkflow().to_graph(), graph)
    binding = f"doc = {json.dumps(evil)}\n[results.x]\nnode = '2'\ndoc = {json.dumps(evil)}\n"
    if evil.isprintable():
        report, package = generate_package({"a.json": graph, "a.toml": binding})
        assert not report.errors
        assert package.AWorkflow.__doc__


def test_an_evil_file_name_stays_in_its_folder(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"__init__.json": {"1": {"inputs": {}, "class_type": "A"}}})
    workspace.write({'..\\"""x {{y}}.json': {"1": {"inputs": {}, "class_type": "A"}}})
    report = workspace.generate()
    assert not report.errors
    assert set(workspace.files()) == {
        *("__init__.py", "py.typed", "object_info.json"),
        *("init.py", "init.json", "x_y.py", "x_y.json"),
    }


def test_an_id_with_a_backslash_is_private_and_warned_of(generate_package: GeneratePackage) -> None:
    graph = {"a\\": {"inputs": {"x": 1}, "class_type": "A"}}
    report, package = generate_package({"a.json": graph})
    assert "contains a backslash" in str(report.warnings[0])
    assert package.AWorkflow().to_graph() == graph


def test_a_megabyte_of_text_is_reproduced(generate_package: GeneratePackage) -> None:
    graph = {"1": {"inputs": {"text": "ab\n'\"" * 200_000}, "class_type": "A"}}
    _, package = generate_package({"a.json": graph})
    assert package.AWorkflow().to_graph() == graph


def test_values_are_not_shared_between_two_workflows(generate_package: GeneratePackage) -> None:
    graph = {"1": {"inputs": {"x": {"on": [1]}}, "class_type": "A"}}
    _, package = generate_package({"a.json": graph})
    first = package.AWorkflow()
    first.a_x["on"].append(2)
    assert package.AWorkflow().to_graph() == graph
