"""Several pictures as one input: for a node that reads a folder, and for several loaders."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyloom.cli.dev.warm import warm_up_job
from comfyloom.cli.main import invoke
from comfyloom.emulator import Emulator, Node, NodeCall, NodeResult
from comfyloom.errors import InputFileError, InputValueError
from comfyloom_codegen import generate
from comfyloom_emulator.nodes.values import Picture
from small_runs import direct_session

GRAPH: dict[str, Any] = {
    "1": {"class_type": "VHS_LoadImages", "inputs": {"directory": "takes"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "4": {"class_type": "LoadImage", "inputs": {"image": "y.png"}},
    "5": {"class_type": "ImageBatch", "inputs": {"image1": ["3", 0], "image2": ["4", 0]}},
    "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "b"}},
}
BINDING = """
command = "takes"

[inputs]
takes = { to = ["1.directory"], required = false }
pair = { kind = "images", to = ["3.image", "4.image"], required = false }

[results]
from_folder = { node = "2", kind = "image", many = true }
from_loaders = { node = "6", kind = "image", many = true }
"""
SCHEMAS: dict[str, Any] = {
    "VHS_LoadImages": {
        "input": {"required": {"directory": [["takes"]]}},
        "output": ["IMAGE", "MASK", "INT"],
    },
    "ImageBatch": {
        "input": {"required": {"image1": ["IMAGE"], "image2": ["IMAGE"]}},
        "output": ["IMAGE"],
    },
}


LOADED: list[Path] = []
"""The folders that were read, in order."""


def load_folder(call: NodeCall) -> NodeResult:
    folder = call.folders.annotated_path(call.inputs["directory"])
    LOADED.append(folder)
    files = sorted(path for path in folder.iterdir() if path.suffix == ".png")
    images = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in files]
    return NodeResult(outputs=(Picture(np.stack(images)), None, len(images)))


def join(call: NodeCall) -> NodeResult:
    pictures = [call.inputs["image1"].pixels, call.inputs["image2"].pixels]
    return NodeResult(outputs=(Picture(np.concatenate(pictures)),))


def folder_exists(folders: Any, name: Any) -> str | None:
    return None if folders.annotated_path(str(name)).is_dir() else f"Invalid directory: {name}"


NODES = {
    "VHS_LoadImages": Node(run=load_folder, validate={"directory": folder_exists}),
    "ImageBatch": Node(run=join),
}


@pytest.fixture(scope="module")
def cls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("takes")
    (folder / "takes.json").write_text(json.dumps(GRAPH), "utf-8")
    (folder / "takes.toml").write_text(BINDING, "utf-8")
    generate(folder, folder, "takes_flows").raise_for_errors()
    installed = folder / "takes-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: takes\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[comfyloom.workflows]\ntakes = takes_flows\n")
    sys.path.insert(0, str(folder))
    yield importlib.import_module("takes_flows").TakesWorkflow
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(object_info=SCHEMAS, nodes=NODES) as running:
        yield running


def grey(level: int) -> Any:
    return Image.new("RGB", (6, 4), (level, level, level))


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    grey(level).save(buffer, "PNG")
    return buffer.getvalue()


def levels(outputs: Any) -> list[int]:
    return [int(np.asarray(Image.open(each.path).convert("L"))[0, 0]) for each in outputs]


def numbered(folder: Path, *files: tuple[str, int]) -> Path:
    folder.mkdir()
    for name, level in files:
        (folder / name).write_bytes(png(level))
    return folder


def test_a_list_keeps_its_order(cls: Any, emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "z.png"
    path.write_bytes(png(90))
    given = [png(200), grey(10), np.asarray(grey(60)), path, png(200)]
    with direct_session(emulator) as session:
        result = session.run(cls(takes=given), outputs=["from_folder"])
        assert levels(result.from_folder) == [200, 10, 60, 90, 200]
        batch = np.stack([np.asarray(grey(level)) for level in (7, 5)])
        workflow = cls(takes=batch, pair=[png(1), png(2)])  # only one of them runs
        assert levels(session.run(workflow, outputs=["from_folder"]).from_folder) == [7, 5]


def test_a_folder_is_read_in_natural_order(cls: Any, emulator: Emulator, tmp_path: Path) -> None:
    files = [("shot 10.png", 100), ("shot 9.png", 90), ("SHOT 95.png", 95), (".x.png", 1)]
    folder = numbered(tmp_path / "takes", *files)
    (folder / "notes.txt").write_text("no picture")
    numbered(folder / "older", ("shot 0.png", 2))
    with direct_session(emulator) as session:
        result = session.run(cls(takes=folder), outputs=["from_folder"])
    assert levels(result.from_folder) == [90, 100, 95]


def test_each_loader_gets_one(cls: Any, emulator: Emulator, tmp_path: Path) -> None:
    folder = numbered(tmp_path / "pair", ("2.png", 20), ("1.png", 10))
    with direct_session(emulator) as session:
        result = session.run(cls(pair=[png(30), png(40)]), outputs=["from_loaders"])
        assert levels(result.from_loaders) == [30, 40]
        result = session.run(cls(pair=folder), outputs=["from_loaders"])
        assert levels(result.from_loaders) == [10, 20]


def test_other_pictures_get_a_folder_of_their_own(cls: Any, emulator: Emulator) -> None:
    LOADED.clear()
    with direct_session(emulator) as session:
        for given in ([png(1), png(2)], [png(2), png(1)], [png(1), png(2)]):
            session.run(cls(takes=given), outputs=["from_folder"])
    first, second, third = LOADED
    assert first == third != second
    for folder in LOADED:
        assert sorted(path.name for path in folder.iterdir()) == ["00001.png", "00002.png"]


def test_a_folder_that_the_server_has_lost_is_sent_again(cls: Any, emulator: Emulator) -> None:
    LOADED.clear()
    with direct_session(emulator) as session:
        session.run(cls(takes=[png(3), png(4)]), outputs=["from_folder"])
        shutil.rmtree(LOADED[0])
        result = session.run(cls(takes=[png(3), png(4)]), outputs=["from_folder"])
    assert levels(result.from_folder) == [3, 4]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"pair": [b"x"]}, "expected 2 images, one for each of its nodes, got 1"),
        ({"pair": []}, "there is no image"),
        ({"takes": []}, "there is no image"),
        ({"takes": b"x"}, "expected a list of images or a folder, got bytes"),
        ({"takes": ["a.png", 5]}, "image 2: expected a path, .*, got int"),
        ({"takes": np.zeros((4, 4, 3), np.uint8)}, "expected a list of images or a folder"),
    ],
)
def test_what_is_no_list_of_pictures_is_refused(cls: Any, values: Any, reason: str) -> None:
    with pytest.raises(InputValueError, match=reason):
        cls(**values)


def test_a_wrong_folder_is_refused(cls: Any, emulator: Emulator, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    three = numbered(tmp_path / "three", *((f"{each}.png", each) for each in range(3)))
    with direct_session(emulator) as session:
        with pytest.raises(InputValueError, match=r"empty: there is no image"):
            session.run(cls(takes=empty))
        with pytest.raises(InputValueError, match=r"three: expected 2 images, .* got 3"):
            session.run(cls(pair=three))
        with pytest.raises(InputFileError, match=r"cannot read .*away"):
            session.run(cls(takes=tmp_path / "away"))
        with pytest.raises(InputFileError, match=r"cannot read .*gone.png"):
            session.run(cls(pair=[png(1), tmp_path / "gone.png"]))
        with pytest.raises(InputValueError, match="not an image"):
            session.run(cls(pair=[png(1), b"%PDF-1.4 no picture"]))
        with pytest.raises(InputValueError, match="'takes' is not a file input"):
            session.run(cls(takes=[png(1)]), upload_name={"takes": "a.png"})


def test_the_list_is_the_workflow_s_own(cls: Any) -> None:
    given = [png(1)]
    workflow = cls(takes=given)
    given.append(png(2))
    assert workflow.takes == (png(1),)
    assert workflow == cls(takes=[png(1)])
    assert workflow != cls(takes=[png(2)])
    array = [np.zeros((4, 4, 3), np.uint8)]
    assert cls(takes=array) == cls(takes=[array[0].copy()])
    assert repr(png(1)) not in repr(workflow)


def test_a_graph_shows_the_names_before_they_are_uploaded(cls: Any, tmp_path: Path) -> None:
    graph = cls(takes=tmp_path / "shots", pair=["a.png", b"x"]).to_graph()
    assert graph["1"]["inputs"]["directory"] == "shots"
    assert graph["3"]["inputs"]["image"] == "a.png"
    assert graph["4"]["inputs"]["image"] == "pair.png"
    assert cls().to_graph() == GRAPH
    assert cls(takes=[b"x"]).to_graph()["1"]["inputs"]["directory"] == "takes"


def test_on_the_command_line(
    cls: Any,
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = numbered(tmp_path / "takes", ("1.png", 10), ("2.png", 20))
    one, two = (str(folder / name) for name in ("1.png", "2.png"))
    out = tmp_path / "out"
    options = ["--target", emulator.comfyui_url, "--out", str(out), "--json"]
    for given in (["--takes", str(folder)], ["--takes", one, "--takes", two]):
        command = ["run", "takes", *given, "--pair", two, "--pair", one, *options]
        assert invoke(command) == 0
        printed = capsys.readouterr().out
    files = json.loads(printed)["files"]
    assert [int(np.asarray(Image.open(path))[0, 0, 0]) for path in files["from_loaders"]] == [
        20,
        10,
    ]
    assert [int(np.asarray(Image.open(path))[0, 0, 0]) for path in files["from_folder"]] == [10, 20]


def test_a_list_may_be_left_out_on_the_command_line(
    cls: Any, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--target", emulator.comfyui_url, "--out", str(tmp_path), "--only", "from_folder"]
    assert invoke(["run", "takes", *options]) != 0  # the server has no folder "takes"
    assert "Invalid directory: takes" in capsys.readouterr().err


def test_a_warm_up_has_as_many_as_are_needed(cls: Any) -> None:
    names = cls.__workflow__.inputs
    assert [spec.count for spec in names] == [None, 2]
    assert warm_up_job(cls).to_graph() == GRAPH  # nothing is required here
