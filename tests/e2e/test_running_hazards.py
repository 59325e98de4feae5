"""Unusual workflows when they run: one test for each hazard, numbered as in their list.

The generator is tested on them in tests/codegen (test_unusual_*.py, test_ids_and_links.py).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom import RunComfySession
from comfyloom.emulator import Emulator
from comfyloom.errors import OutputMissing, PromptRejected
from comfyloom_codegen import generate
from comfyloom_emulator.nodes.spec import Node, NodeCall, NodeResult
from support import HastyClock

SCHEMAS: dict[str, Any] = {
    "Report": {
        "input": {"optional": {"ui": ["STRING"], "folder": ["STRING"]}},
        "output": [],
        "output_node": True,
    },
    "Lose": {"input": {"required": {"ui": ["STRING"]}}, "output": [], "output_node": True},
    "Say": {
        "input": {"required": {"text": ["STRING"], "list": ["*"]}},
        "output": ["STRING"],
        "output_node": True,
    },
    "LoadAudio": {"input": {"required": {"audio": ["STRING"]}}, "output": ["AUDIO"]},
    "LoadVideo": {"input": {"required": {"file": ["STRING"]}}, "output": ["VIDEO"]},
    "Take": {
        "input": {"required": {"audio": ["AUDIO"], "video": ["VIDEO"]}},
        "output": [],
        "output_node": True,
    },
}


def png(width: int = 1) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + b"\x80" * width)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FINAL = png(2)
CONTENT = {".png": png(), ".glb": b"glTF" + struct.pack("<II", 2, 12)}


def report(call: NodeCall) -> NodeResult:
    """Report the input `ui`, and create every file that it names."""
    ui = json.loads(call.inputs["ui"])
    for values in ui.values():
        for value in values if isinstance(values, list) else []:
            if isinstance(value, dict) and "filename" in value:
                place = call.folders.save_target("x", value["type"]).directory
                path = place.joinpath(value["subfolder"], value["filename"])
                path.parent.mkdir(parents=True, exist_ok=True)
                is_final = path.name == "a.png"
                path.write_bytes(FINAL if is_final else CONTENT.get(path.suffix, b"content"))
            elif isinstance(value, str) and value.endswith(".glb"):
                path = call.folders.save_target("x", "output").directory / value
                path.write_bytes(CONTENT[".glb"])
    return NodeResult(ui=ui)


def say(call: NodeCall) -> NodeResult:
    return NodeResult(outputs=("",), ui={"text": [call.inputs["text"], repr(call.inputs["list"])]})


def lose(call: NodeCall) -> NodeResult:
    return NodeResult(ui=json.loads(call.inputs["ui"]))  # without the file


def take(call: NodeCall) -> NodeResult:
    return NodeResult(ui={"text": [str(value) for value in call.inputs.values()]})


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    nodes = {"Report": Node(run=report), "Say": Node(run=say), "Lose": Node(run=lose)}
    with Emulator(object_info=SCHEMAS, nodes=nodes) as running:
        yield running


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that gives the class of a graph and its binding."""
    import importlib
    import itertools

    count = itertools.count()

    def make(graph: Any, binding: str | None = None) -> Any:
        folder = tmp_path / f"w{next(count)}"
        folder.mkdir()
        (folder / "it.json").write_text(json.dumps(graph), "utf-8")
        if binding is not None:
            (folder / "it.toml").write_text(binding, "utf-8")
        package = f"running_{tmp_path.name}_{folder.name}".replace("-", "_")
        generate(folder, tmp_path / "out", package).raise_for_errors()
        monkeypatch.syspath_prepend(tmp_path / "out")
        importlib.invalidate_caches()
        return importlib.import_module(package).ItWorkflow

    return make


def reports(**ui: Any) -> dict[str, Any]:
    return {"1": {"class_type": "Report", "inputs": {"ui": json.dumps(ui)}}}


def file(name: str, kind: str = "output", folder: str = "") -> dict[str, str]:
    return {"filename": name, "subfolder": folder, "type": kind}


def run(emulator: Emulator, workflow: Any, **options: Any) -> Any:
    with RunComfySession(emulator, clock=HastyClock()) as session:
        return session.run(workflow, **options)


def posts(emulator: Emulator) -> list[Any]:
    return [
        each
        for each in emulator.state()["requests"]
        if each["method"] == "POST" and each["path"].endswith("/prompt")
    ]


def test_48_and_49_a_rejection_gives_the_servers_message_and_is_not_retried(
    emulator: Emulator, made: Any
) -> None:
    graph = {"1": {"class_type": "NotInstalled", "inputs": {"x": 1}}}
    with pytest.raises(PromptRejected, match="NotInstalled"):
        run(emulator, made(graph)())
    assert len(posts(emulator)) == 1


RESULTS = """
[results.pictures]
kind = "image"
node = "Report"
key = "images"
many = true
file = "p.png"
[results.film]
kind = "video"
node = "Report"
key = "gifs"
file = "film"
[results.sound]
kind = "audio"
node = "Report"
[results.mesh]
kind = "mesh"
node = "Report"
key = "result"
file = "m.glb"
[results.text]
kind = "text"
node = "Report"
[results.lines]
kind = "text"
node = "Report"
many = true
[results.latent]
kind = "file"
node = "Report"
key = "latents"
[results.raw]
kind = "json"
node = "Report"
key = "score"
[results.never]
kind = "text"
node = "Report"
key = "nothing"
required = false
[results.none_of_them]
kind = "json"
node = "Report"
key = "nothing"
"""


def test_50_results_of_every_kind_are_read_under_any_key(
    emulator: Emulator, made: Any, tmp_path: Path
) -> None:
    ui = {
        "images": [file("a.png"), file("b.png", folder="sub"), file("t.png", "temp")],
        "animated": [True],
        "gifs": [file("clip_00001.MP4")],
        "audio": [file("x.flac", folder="audio")],
        "result": ["model.glb", None],
        "text": ["one", "two", 3],
        "latents": [file("z.latent")],
        "score": {"value": 0.5, "unknown": [None]},
    }
    cls = made(reports(**ui), RESULTS)
    out = tmp_path / "here"
    result = run(emulator, cls(), out_dir=out)
    assert [each.path.name for each in result.pictures] == ["p_1.png", "p_2.png"]
    assert result.film.path.name == "film.mp4"
    assert result.sound.path.name == "sound.flac"
    assert result.mesh.path.read_bytes() == CONTENT[".glb"]
    assert (result.text, result.lines) == ("one", ("one", "two", "3"))
    assert result.latent.path.name == "latent_z.latent"
    assert result.raw == {"value": 0.5, "unknown": [None]}
    assert result.never is result.none_of_them is None
    assert result.ui["1"] == ui  # nothing is dropped
    names = {"p_1.png", "p_2.png", "film.mp4", "sound.flac", "m.glb", "latent_z.latent"}
    assert {path.name for path in out.iterdir()} == names
    kinds = {name: type(getattr(result, name)).__name__ for name in ("film", "sound", "mesh")}
    assert kinds == {"film": "VideoOutput", "sound": "AudioOutput", "mesh": "MeshOutput"}


def test_51_a_final_picture_is_preferred_to_a_preview(emulator: Emulator, made: Any) -> None:
    binding = '[results.image]\nkind = "image"\nnode = "Report"\n'
    both = reports(images=[file("t.png", "temp"), file("a.png")])
    result = run(emulator, made(both, binding)())
    assert result.image.bytes() == FINAL
    only = reports(images=[file("t.png", "temp")])
    assert run(emulator, made(only, binding)()).image.bytes() == CONTENT[".png"]


def test_52_an_output_missing_from_the_history_is_an_error_or_none(
    emulator: Emulator, made: Any
) -> None:
    binding = '[results.image]\nkind = "image"\nnode = "Report"\n'
    with pytest.raises(OutputMissing, match="result image"):
        run(emulator, made(reports(), binding)())
    result = run(emulator, made(reports(), f"{binding}required = false\n")())
    assert result.image is None
    assert run(emulator, made(reports(), f"{binding}required = false\nmany = true\n")()).image == ()


def test_53_output_nodes_of_the_same_title_are_distinguished(emulator: Emulator, made: Any) -> None:
    graph = {
        number: {**reports(text=[number])["1"], "_meta": {"title": "Show"}} for number in ("8", "9")
    }
    binding = "".join(
        f'[results.r{number}]\nkind = "text"\nnode = "{number}"\n' for number in graph
    )
    result = run(emulator, made(graph, binding)())
    assert (result.r8, result.r9) == ("8", "9")


def test_54_outputs_of_nodes_outside_the_graph_are_not_downloaded(
    emulator: Emulator, made: Any
) -> None:
    from comfyloom._comfyui.downloads import plan
    from comfyloom._comfyui.history import HistoryEntry

    cls = made(reports(text=["x"]), '[results.text]\nkind = "text"\nnode = "Report"\n')
    outputs = {"1": {"text": ["x"]}, "1.0.0.2": {"images": [file("a.png")]}}
    entry = HistoryEntry.parse("p", {"outputs": outputs})  # as node expansion leaves them
    assert entry is not None
    assert plan(entry, cls.__workflow__.outputs) == []
    assert entry.outputs["1.0.0.2"]["images"]


def test_a_text_is_not_a_file_and_a_lost_optional_file_is_none(
    emulator: Emulator, made: Any
) -> None:
    graph = reports(text=["Saved the mesh to x.glb"])
    assert run(emulator, made(graph, '[results.f]\nkind = "file"\nnode = "Report"\n')()).f is None
    lost = {"ui": json.dumps({"latents": [file("x.latent")]})}
    graph = {"1": {"class_type": "Lose", "inputs": lost}}
    assert run(emulator, made(graph, '[results.f]\nkind = "file"\nnode = "Lose"\n')()).f is None


def test_55_one_workflow_run_twice_shares_no_state(emulator: Emulator, made: Any) -> None:
    graph = {
        "1": {"class_type": "Say", "inputs": {"text": "x", "list": {"__value__": [1]}}},
    }
    cls = made(graph, 'expose = ["*"]\n[results.lines]\nkind = "text"\nnode = "1"\nmany = true\n')
    workflow = cls(say_list=["a", "b"])
    first, second = run(emulator, workflow), run(emulator, workflow)
    assert first.lines == second.lines == ("x", "['a', 'b']")
    assert workflow.to_graph() == cls(say_list=["a", "b"]).to_graph()


@pytest.mark.parametrize("given", ["path", "bytes"])
def test_sounds_and_videos_are_uploaded(
    emulator: Emulator, made: Any, tmp_path: Path, given: str
) -> None:
    graph = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "x.wav"}},
        "2": {"class_type": "LoadVideo", "inputs": {"file": "x.mp4"}},
        "3": {"class_type": "Take", "inputs": {"audio": ["1", 0], "video": ["2", 0]}},
    }
    cls = made(graph)
    kinds = {spec.name: spec.kind for spec in cls.__workflow__.inputs}
    assert kinds == {"load_audio_audio": "audio", "load_video_file": "video"}
    sound, film = b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x20ftypisom"
    (tmp_path / "s.wav").write_bytes(sound)
    (tmp_path / "f.m4v").write_bytes(film)
    values: Any = {"load_audio_audio": sound, "load_video_file": film}
    if given == "path":
        values = {"load_audio_audio": tmp_path / "s.wav", "load_video_file": tmp_path / "f.m4v"}
    run(emulator, cls(**values))
    (prompt,) = posts(emulator)
    assert prompt["status"] == 200
    uploads = [r for r in emulator.state()["requests"] if r["path"].endswith("/upload/image")]
    assert len(uploads) == 2
