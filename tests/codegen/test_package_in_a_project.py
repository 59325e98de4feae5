"""A generated package in the project of a user: dependencies, entry points, cost."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys

import pytest

from codegen.command import run
from codegen.workspace import MakeWorkspace
from comfyloom.errors import GraphError
from comfyloom_codegen.cli import codegen
from support import ROOT
from ugly import UGLY, node


def test_a_package_depends_only_on_the_sdk_and_exports_its_classes(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": UGLY["ends"], "b.json": UGLY["values"]})
    workspace.generate()
    names = workspace.module().__all__
    assert names == ["AResult", "AWorkflow", "BResult", "BWorkflow"]
    for path in workspace.package_folder.glob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(statement, ast.ImportFrom):
                root = str(statement.module).partition(".")[0]
                assert root in ("comfyloom", "typing", "__future__", workspace.package)
            elif isinstance(statement, ast.Import):
                assert [alias.name for alias in statement.names] == ["importlib"]


def test_a_package_registers_its_commands_by_entry_point(
    make_workspace: MakeWorkspace, caplog: pytest.LogCaptureFixture
) -> None:
    from comfyloom.cli.workflows import workflow_classes

    workspace = make_workspace({"my flow.json": UGLY["values"]})
    workspace.generate()
    info = workspace.out / f"{workspace.package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {workspace.package}\nVersion: 1.0\n"
    )
    points = f"[comfyloom.workflows]\n{workspace.package} = {workspace.package}\n"
    (info / "entry_points.txt").write_text(points, "utf-8")
    assert str(workspace.out) in sys.path
    found = workflow_classes()
    assert found["my-flow"] is workspace.module().MyFlowWorkflow
    assert "flux-mesh" in found
    (workspace.package_folder / "broken.py").write_text("def", "utf-8")
    broken = points.replace(f"= {workspace.package}", f"= {workspace.package}.broken")
    (info / "entry_points.txt").write_text(broken, "utf-8")
    assert "flux-mesh" in workflow_classes()
    (info / "entry_points.txt").write_text(
        points.replace(f"= {workspace.package}", "= gone"), "utf-8"
    )
    importlib.invalidate_caches()
    with caplog.at_level("WARNING"):
        assert "flux-mesh" in workflow_classes()
    assert (
        f"the workflows of {workspace.package} cannot be imported (entry point gone): No module"
        in caplog.text
    )


def test_a_package_built_without_its_data_is_a_clear_error(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": {"1": node("A")}})
    workspace.generate()
    workflow = workspace.module().AWorkflow()
    (workspace.package_folder / "a.json").unlink()
    with pytest.raises(GraphError, match=r"was built without its a\.json"):
        workflow.to_graph()


def test_the_pre_commit_hook_calls_an_existing_command() -> None:

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


def test_the_command_line_imports_no_heavy_package() -> None:
    heavy = {"jinja2", "cattrs", "tomlkit", "rich", "requests", "sqlalchemy"}
    code = (
        "import sys, comfyloom_codegen.cli;"
        f"assert not {heavy!r} & set(sys.modules), sorted({heavy!r} & set(sys.modules))"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_inputs_may_be_named_like_options_of_the_command(make_workspace: MakeWorkspace) -> None:
    from comfyloom.cli.options import build, option

    names = ("workflow", "out", "timeout", "as_json", "help", "given")
    graph = {"1": node("SaveImage", **{f"i_{name}": "x" for name in names})}
    binding = "".join(f"[inputs.{name}]\nto = ['1.i_{name}']\n" for name in names)
    workspace = make_workspace({"a.json": graph, "a.toml": binding})
    assert not workspace.generate().errors
    cls = workspace.module().AWorkflow
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
