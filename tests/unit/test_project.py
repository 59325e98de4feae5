"""The README, the docs and the packages agree with the code."""

from __future__ import annotations

import ast
import inspect
import json
import re
import struct
from pathlib import Path

import pytest

import comfyloom
from comfyloom.errors import EXIT_CODES
from comfyloom_codegen.schema_pins import classes_in_use, pinned_class
from comfyloom_workflows import FluxMeshWorkflow
from support import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_begins_with_two_commands_and_installs_before_its_first_snippet() -> None:
    before, _, after = README.partition("## Install")
    assert "```python" not in before
    assert after.index("pip install -e '.[all]'") < after.index("```python")
    setup = [line for line in before.splitlines() if "pip install" in line]
    begin = "python3 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox -s "
    assert setup == [begin + "demo", begin + "tests"]
    assert (begin + "tests") in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        ast.parse(block)
    scope: dict[str, object] = {}
    exec(blocks[1].replace("  # True", ""), scope)
    assert isinstance(scope["workflow"], FluxMeshWorkflow)
    assert scope["workflow"] == FluxMeshWorkflow(
        input_image="examples/render.png", prompt="a jade dragon", steps=30
    )


def test_every_link_in_the_docs_has_a_target() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r'(?:\]\(|src=")([^)"]+)', page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target.partition("#")[0]).exists(), (page.name, target)


def test_the_pinned_schemas_agree_with_the_emulators() -> None:
    pinned = json.loads((ROOT / "workflows" / "object_info.json").read_text("utf-8"))
    emulated = json.loads((ROOT / "sdk" / "comfyloom_emulator" / "schemas.json").read_text("utf-8"))
    assert set(pinned) == classes_in_use(ROOT / "workflows")
    assert {name: pinned_class(emulated[name]) for name in pinned} == pinned


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    for code in EXIT_CODES.values():
        assert re.search(rf"\| (?:\d+, )?{code}\b", page), code


def test_the_version_of_the_project_is_the_version_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == comfyloom.__version__


@pytest.mark.parametrize(
    "package",
    [
        "sdk/comfyloom",
        "sdk/comfyloom_emulator",
        "codegen/comfyloom_codegen",
        "generated/comfyloom_workflows",
    ],
)
def test_every_package_is_typed_and_every_function_annotated(package: str) -> None:
    folder = ROOT / package
    assert (folder / "py.typed").is_file()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.returns is not None or node.name == "__init__", (path, node.name)


def test_docstrings_of_the_main_methods_say_what_is_raised() -> None:
    for method in (
        comfyloom.RunComfySession.run,
        comfyloom.RunComfySession.submit,
        comfyloom.RunComfySession.close,
        comfyloom.Run.wait,
        comfyloom.Output.save,
        comfyloom.Settings.load,
        comfyloom.Workflow.to_graph,
    ):
        assert "Raises:" in (inspect.getdoc(method) or "")


def test_the_images_of_docs_and_examples_are_png() -> None:
    for path in (ROOT / "examples/render.png", *Path(ROOT / "docs/images").glob("*.png")):
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert min(struct.unpack(">II", head[16:24])) >= 300
