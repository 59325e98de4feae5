"""Existing files in the package and in the folder of workflows are respected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.samples import GOOD
from codegen.workspace import (
    MakeWorkspace,
    problem_text,
)
from comfyloom.errors import OutputNotWritable
from comfyloom_codegen import generate
from ugly import node


def test_unreadable_schemas_change_nothing(make_workspace: MakeWorkspace) -> None:
    schemas = {"SaveImage": {"input": {"required": {"text": ["STRING"]}}, "output_node": True}}
    workspace = make_workspace({"a.json": GOOD, "object_info.json": schemas})
    workspace.generate()
    before = workspace.files()
    for broken in ("{", "[]", '{"x": 1}', json.dumps(GOOD)):
        workspace.write({"object_info.json": broken})
        report = workspace.generate()
        assert report.errors
        assert {outcome.state for outcome in report.outcomes} == {"failed"}
        assert workspace.files() == before
    (workspace.workflows / "object_info.json").unlink()
    (workspace.workflows / "object_info.json").symlink_to("nowhere")
    assert "object_info.json: cannot be read" in problem_text(workspace.generate())


def test_workflow_files_may_be_named_like_files_of_the_package(
    make_workspace: MakeWorkspace,
) -> None:
    names = ["object info", "importlib", "json", "typing", "comfyloom"]
    workspace = make_workspace({f"{name}.json": {"1": node("A", x=name)} for name in names})
    report = workspace.generate()
    assert not report.errors
    package = workspace.module()
    for name in package.__all__:  # each is imported beside the other modules
        assert getattr(package, name)
    for outcome in report.outcomes:
        graph = getattr(package, outcome.workflow)().to_graph()
        assert graph["1"]["inputs"]["x"] == outcome.file.removesuffix(".json")
    assert json.loads(workspace.text("object_info.json")) == {}
    (workspace.workflows / "object info.json").unlink()
    workspace.generate()
    assert "object_info.json" in workspace.files()


def test_a_module_with_a_long_doc_is_still_recognized_as_generated(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": GOOD, "a.toml": f"doc = '{'long ' * 4000}'\n"})
    workspace.generate()
    assert not workspace.generate(check=True).drift
    workspace.write({"a.json": {"1": node("SaveImage", text="y")}})
    assert not workspace.generate().errors


@pytest.mark.parametrize("name", ["a·b", "l·l", "मनीष", "ɳ"])
@pytest.mark.parametrize("binding", [None, "doc = 'x'\n"])
def test_letters_that_some_tools_reject_can_be_used_in_names(
    make_workspace: MakeWorkspace, name: str, binding: str | None
) -> None:
    files: dict[str, object] = {f"{name}.json": GOOD}
    workspace = make_workspace(files if binding is None else {**files, f"{name}.toml": binding})
    report = workspace.generate()
    assert not report.errors, problem_text(report)
    assert getattr(workspace.module(), report.outcomes[0].workflow)().to_graph() == GOOD


def test_data_of_the_user_in_the_package_is_not_overwritten(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": GOOD})
    package = workspace.package_folder
    package.mkdir(parents=True)
    (package / "a.json").write_text('["mine"]', "utf-8")
    with pytest.raises(OutputNotWritable, match=r"a\.json was not made by"):
        workspace.generate()
    assert (package / "a.json").read_text("utf-8") == '["mine"]'


def test_partial_files_of_killed_processes_are_removed(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"a.json": GOOD})
    workspace.generate()
    dead, alive = 2**22 + 12345, os.getppid()
    for pid in (dead, alive):
        (workspace.package_folder / f".a.py.{pid}.part").write_text("x", "utf-8")
    workspace.write({"a.json": {"1": node("SaveImage", text="y")}})
    workspace.generate()
    assert [name for name in workspace.files() if name.endswith(".part")] == [f".a.py.{alive}.part"]


def test_a_full_disk_leaves_a_package_that_can_be_imported(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfyloom_codegen import writing

    workspace = make_workspace({f"{name}.json": GOOD for name in "abc"})
    workspace.generate()
    (workspace.workflows / "a.json").rename(workspace.workflows / "z.json")
    really, room = writing._write, iter(range(1))

    def write(path: Path, text: str) -> None:
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        really(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "_write", write)
        with pytest.raises(OutputNotWritable, match="No space left"):
            workspace.generate()
    package = workspace.module()
    assert package.__all__[:2] == ["AResult", "AWorkflow"]
    assert package.AWorkflow().to_graph() == GOOD
    workspace.generate()
    assert not workspace.generate(check=True).drift


def test_files_that_are_not_regular_do_not_block(make_workspace: MakeWorkspace) -> None:
    workspace = make_workspace({"good.json": GOOD})
    os.mkfifo(workspace.workflows / "fifo.json")
    os.mkfifo(workspace.workflows / "pipe.png")
    (workspace.workflows / "folder.json").mkdir()
    (workspace.workflows / "link.json").symlink_to("nowhere")
    (workspace.workflows / "good.toml").mkdir()
    lines = problem_text(workspace.generate())
    assert "fifo.json: is not a regular file" in lines
    assert "pipe.png: is not a regular file" in lines
    assert "folder.json: cannot be read (Is a directory)" in lines
    assert "link.json: cannot be read" in lines
    assert "good.toml: cannot be read (Is a directory)" in lines


def test_many_files_generate_the_same_on_several_processors(
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
