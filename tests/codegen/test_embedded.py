"""Workflows embedded in pictures and meshes."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.workspace import (
    GeneratePackage,
    MakeWorkspace,
)
from comfyloom._workflow.embedded import Embedded, workflow_of
from ugly import node

GRAPH = {"1": node("SaveImage", "保存", text="naïve ✨")}
TEXT = json.dumps(GRAPH)
PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture(*chunks: bytes) -> bytes:
    return PNG + chunk(b"IHDR", bytes(13)) + b"".join(chunks) + chunk(b"IEND", b"")


def mesh(extras: Any) -> bytes:
    body = json.dumps({"asset": {"version": "2.0", "extras": extras}}).encode()
    body += b" " * (-len(body) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(body))
    return head + struct.pack("<I4s", len(body), b"JSON") + body


def text_chunk(text: str, key: bytes = b"prompt") -> bytes:
    return chunk(b"tEXt", key + b"\0" + text.encode())


@pytest.mark.parametrize(
    "content",
    [
        picture(text_chunk(TEXT)),
        picture(text_chunk("{}", b"workflow"), text_chunk(TEXT)),
        picture(chunk(b"zTXt", b"prompt\0\0" + zlib.compress(TEXT.encode()))),
        picture(chunk(b"iTXt", b"prompt\0\0\0en\0prompt\0" + TEXT.encode())),
        picture(chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(TEXT.encode()))),
        mesh({"prompt": TEXT, "workflow": "{}"}),
        mesh({"prompt": GRAPH}),
    ],
)
def test_an_embedded_workflow_generates_like_its_json(
    generate_package: GeneratePackage, content: bytes
) -> None:
    suffix = ".png" if content.startswith(PNG) else ".glb"
    report, package = generate_package({f"a{suffix}": content, "a.toml": 'class = "Own"\n'})
    assert not report.problems
    assert package.OwnWorkflow().to_graph() == GRAPH
    assert package.OwnWorkflow.__workflow__.graph == "a.json"


def test_a_workflow_saved_by_the_emulated_server_generates(
    generate_package: GeneratePackage, tmp_path: Path, render: Path
) -> None:
    from comfyloom import RunComfySession
    from comfyloom_workflows import FluxMeshWorkflow
    from support import HastyClock

    workflow = FluxMeshWorkflow(input_image=render, prompt="a jade dragon", width=64, height=64)
    with RunComfySession("emulator", clock=HastyClock()) as session:
        result = session.run(workflow)
    files = {"flux.png": result.image.bytes(), "mesh.glb": result.mesh.bytes()}
    report, package = generate_package(files)
    assert not report.errors
    for cls in (package.FluxWorkflow, package.MeshWorkflow):
        sent = cls().to_graph()
        assert sent["34"]["inputs"]["clip_l"] == "a jade dragon"
        assert list(sent) == list(workflow.to_graph())


def test_a_picture_without_a_workflow_warns_and_the_web_ui_format_is_refused(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace(
        {
            "a.json": GRAPH,
            "plain.png": picture(),
            "cut.png": picture(text_chunk(TEXT))[:60],
            "page.png": picture(text_chunk('{"nodes": []}', b"workflow")),
            "empty.glb": b"",
        }
    )
    report = workspace.generate()
    lines = [str(problem) for problem in report.problems]
    assert lines[0] == "warning: cut.png: skipped: it contains no workflow"
    assert lines[1] == "warning: empty.glb: skipped: it contains no workflow"
    assert "page.png: this is the format of ComfyUI's web UI" in lines[2]
    assert lines[3].startswith("warning: plain.png: skipped: it contains no workflow")
    states = {outcome.file: outcome.state for outcome in report.outcomes}
    assert states == {
        **dict.fromkeys(("plain.png", "cut.png", "empty.glb"), "skipped"),
        "page.png": "failed",
        "a.json": "written",
    }


def test_the_module_of_a_picture_that_lost_its_workflow_is_removed(
    make_workspace: MakeWorkspace,
) -> None:
    workspace = make_workspace({"a.json": GRAPH, "b.png": picture(text_chunk(TEXT))})
    workspace.generate()
    workspace.write({"b.png": picture()})
    workspace.generate()
    assert "b.py" not in workspace.files()
    assert "BWorkflow" not in workspace.text("__init__.py")


def test_a_json_and_a_picture_of_the_same_name_are_refused(make_workspace: MakeWorkspace) -> None:
    lonely = make_workspace({"b.png": picture(text_chunk(TEXT))})
    lonely.generate()
    lonely.write({"b.png": picture()})
    assert lonely.generate(check=True).drift
    lonely.generate()
    assert "b.py" not in lonely.files()
    assert lonely.module().__all__ == []
    report = make_workspace({"a.json": GRAPH, "a.png": picture(text_chunk(TEXT))}).generate()
    assert "a.json: a.png would be the module 'a' too" in str(report.errors[0])


def test_a_decompression_bomb_is_ignored() -> None:
    bomb = zlib.compress(bytes(1 << 27))
    assert workflow_of(picture(chunk(b"zTXt", b"prompt\0\0" + bomb))) == Embedded()


@given(st.binary(max_size=300), st.sampled_from([PNG, b"glTF", b""]))
def test_any_bytes_are_read_without_an_exception(content: bytes, head: bytes) -> None:
    workflow_of(head + content)


@given(st.integers(0, 200), st.integers(0, 255))
def test_damaged_files_are_read_without_an_exception(place: int, value: int) -> None:
    for whole in (picture(text_chunk(TEXT)), mesh({"prompt": TEXT})):
        broken = bytearray(whole)
        broken[place % len(broken)] = value
        workflow_of(bytes(broken))
        workflow_of(whole[:place])
