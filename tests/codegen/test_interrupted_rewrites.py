"""Rewriting bindings survives edits, refusals, failed writes and killed processes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codegen.reexports import (
    GRAPH,
    PROMPT_BY_ID,
    SWAPPED,
    reexported,
    renumbered,
    title_of_prompt_node,
    titled,
)
from codegen.workspace import MakeWorkspace
from comfyloom.errors import OutputNotWritable
from comfyloom_codegen import generate


def test_a_binding_that_cannot_be_written_changes_nothing(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = reexported(make_workspace, titled(GRAPH, {"6": "PROMPT"}))
    before = workspace.files()

    def refuse(path: Path, _: str) -> None:
        raise OutputNotWritable("no", path=str(path))

    with monkeypatch.context() as patched:
        patched.setattr("comfyloom_codegen.pipeline.write_text", refuse)
        with pytest.raises(OutputNotWritable):
            workspace.generate()
    assert workspace.files() == before
    assert workspace.generate().followed  # the previous export is still known


def test_an_edited_package_is_not_used_as_the_previous_export(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = reexported(make_workspace, renumbered(GRAPH, {"6": "60"}))
    for broken in ("{", "[]", '{"1": 3}'):
        (workspace.package_folder / "a.json").write_text(broken, "utf-8")
        assert not workspace.generate(check=True).changes


def test_a_binding_corrected_by_hand_is_not_rewritten(make_workspace: MakeWorkspace) -> None:
    workspace = reexported(make_workspace, SWAPPED, PROMPT_BY_ID)
    workspace.write({"a.toml": PROMPT_BY_ID.replace("6.text", "7.text")})
    assert not workspace.generate().followed
    assert title_of_prompt_node(workspace) == "POSITIVE"


def test_a_run_killed_between_binding_and_package_is_completed_by_the_next(
    make_workspace: MakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = reexported(make_workspace, SWAPPED, PROMPT_BY_ID)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("comfyloom_codegen.pipeline.apply_changes", die)
        with pytest.raises(KeyboardInterrupt):
            workspace.generate()
    assert not workspace.generate().followed
    assert title_of_prompt_node(workspace) == "POSITIVE"


def test_a_binding_is_kept_while_its_class_is_refused(make_workspace: MakeWorkspace) -> None:
    workspace = reexported(make_workspace, SWAPPED, PROMPT_BY_ID)
    workspace.write({"b.json": GRAPH, "b.toml": 'class = "Cat"\n'})
    report = workspace.generate()
    assert "would be the class 'CatWorkflow' too" in str(report.errors[0])
    assert (workspace.workflows / "a.toml").read_text("utf-8") == PROMPT_BY_ID
    assert not report.followed
    for name in ("b.json", "b.toml"):
        (workspace.workflows / name).unlink()
    assert workspace.generate().followed
    assert title_of_prompt_node(workspace) == "POSITIVE"


def test_killed_generators_leave_a_correct_package(tmp_path: Path) -> None:
    flows, out = tmp_path / "flows", tmp_path / "out"
    flows.mkdir()
    by_id = '[inputs.prompt]\nto = ["6.text"]\n'
    count = 8

    def write(graph: dict[str, Any]) -> None:
        for number in range(count):
            (flows / f"f{number}.json").write_text(json.dumps(graph), "utf-8")

    write(GRAPH)
    for number in range(count):
        (flows / f"f{number}.toml").write_text(by_id, "utf-8")
    generate(flows, out, "flows").raise_for_errors()
    code = (
        "import sys; from comfyloom_codegen import generate;"
        "print(flush=True); generate(*sys.argv[1:])"
    )
    chance, graph = random.Random(5), GRAPH
    for _ in range(12):
        graph = SWAPPED if graph is GRAPH else GRAPH
        write(graph)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(flows), str(out), "flows"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.12)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        generate(flows, out, "flows").raise_for_errors()
        positive = next(n for n, e in graph.items() if e["_meta"]["title"] == "POSITIVE")
        for number in range(count):
            text = (out / "flows" / f"f{number}.py").read_text("utf-8")
            assert f'inputs.text("{positive}.text"' in text
            assert json.loads((out / "flows" / f"f{number}.json").read_text("utf-8")) == graph
        assert not list(tmp_path.rglob("*.part"))
