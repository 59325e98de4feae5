"""Results at paths of the user's own, all or none, and names of the user's own for uploads."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom.emulator import Emulator
from comfyloom.errors import InputValueError, OutputNotWritable
from small_runs import direct_session, small_workflow
from support import RENDER


@pytest.fixture(scope="module")
def result() -> Iterator[Any]:
    with Emulator() as emulator, direct_session(emulator) as session:
        yield session.run(small_workflow())


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_are_placed_where_they_are_wanted(result: Any, tmp_path: Path) -> None:
    old = tmp_path / "show" / "wall.png"
    old.parent.mkdir()
    old.write_bytes(b"old")
    os.utime(old, (1, 1))
    begun = time.time()
    result.place({"image": old, "mesh": str(tmp_path / "new" / "deep" / "model.glb")})
    assert files_in(tmp_path) == {
        "show/wall.png": result.image.bytes(),
        "new/deep/model.glb": result.mesh.bytes(),
    }
    assert old.stat().st_mtime >= begun - 2


def test_all_or_none(result: Any, tmp_path: Path) -> None:
    wall = tmp_path / "wall.png"
    wall.write_bytes(b"old")
    (tmp_path / "model.glb").mkdir()
    (tmp_path / "a file").write_bytes(b"x")
    before = files_in(tmp_path)
    for mesh in (tmp_path / "model.glb", tmp_path / "a file" / "deep" / "model.glb"):
        with pytest.raises(OutputNotWritable) as caught:
            result.place({"image": wall, "mesh": mesh})
        assert str(mesh) in str(caught.value) or "a file" in str(caught.value)
        assert files_in(tmp_path) == before
    with pytest.raises(OutputNotWritable):
        result.place({"image": tmp_path / "x" / "y" / "i.png", "mesh": tmp_path / "model.glb"})
    assert not (tmp_path / "x").exists()


def test_a_failure_after_the_first_replacement_is_undone(
    result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall, model = tmp_path / "wall.png", tmp_path / "model.glb"
    wall.write_bytes(b"old")
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target == model:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OutputNotWritable, match="No space left"):
        result.place({"image": wall, "mesh": model})
    assert files_in(tmp_path) == {"wall.png": b"old"}
    wall.unlink()
    with pytest.raises(OutputNotWritable, match="No space left"):
        result.place({"image": wall, "mesh": model})
    assert files_in(tmp_path) == {}


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_are_replaced_and_put_back(result: Any, tmp_path: Path) -> None:
    """Also one that leads nowhere, as to a disk that is not mounted."""
    nowhere, old, model = (tmp_path / name for name in ("nowhere.png", "old.png", "model.glb"))
    nowhere.symlink_to("/not/mounted/wall.png")
    (tmp_path / "real.png").write_bytes(b"real")
    old.symlink_to("real.png")
    model.mkdir()
    for wall in (nowhere, old):
        before = wall.readlink()
        with pytest.raises(OutputNotWritable, match=r"model\.glb"):
            result.place({"image": wall, "mesh": model})
        assert wall.readlink() == before
    assert {path.name for path in tmp_path.iterdir()} == {
        *("nowhere.png", "old.png", "real.png", "model.glb")
    }
    result.place({"image": nowhere})
    assert not nowhere.is_symlink()
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path)
    with pytest.raises(InputValueError, match="same path"):
        result.place({"image": linked / "a.png", "mesh": tmp_path / "a.png"})


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_link_in_the_folder_for_results_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "flux.png").symlink_to("/not/mounted/flux.png")
    with Emulator() as emulator, direct_session(emulator) as session:
        name = session.run(small_workflow()).mesh.path.name
        (tmp_path / name).mkdir()
        with pytest.raises(OutputNotWritable):
            session.run(small_workflow(), out_dir=tmp_path)
    assert (tmp_path / "flux.png").readlink() == Path("/not/mounted/flux.png")


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        ({"imag": "/x.png"}, "did you mean 'image'"),
        ({"seed": "/x.png"}, "not a result"),
        ({"image": "x.png"}, "not an absolute path"),
        ({"image": ["/a.png", "/b.png"]}, "1 files, got 2 paths"),
        ({"image": "/a.png", "mesh": "/a.png"}, "same path"),
        ({"image": "/x/../a.png", "mesh": "/a.png"}, "same path"),
        ({"image": "/"}, "not an absolute path of a file"),
        ({"image": "/a\0.png"}, "not an absolute path"),
        ({"image": 5}, "expected a path"),
        ({"image": None}, "expected a path"),
        ([("image", "/a.png")], "expected paths by field"),
    ],
)
def test_a_wrong_wish_is_refused(result: Any, targets: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputValueError, match=problem):
        result.place(targets)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_kill_leaves_the_old_file_or_the_new_one(result: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(b"n" * 4_000_000)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from comfyloom._workflow.placing import place_all\n"
        "print('ready', flush=True)\n"
        "while True: place_all([(Path(sys.argv[1]), Path(sys.argv[2]))])\n"
    )
    for number in range(8):
        target.write_bytes(b"o" * 3_000_000)
        command = [sys.executable, "-c", code, str(source), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as placing:
            assert placing.stdout is not None
            placing.stdout.readline()
            time.sleep(0.004 * number)
            placing.send_signal(signal.SIGKILL)
        content = target.read_bytes()
        assert content in (b"o" * 3_000_000, b"n" * 4_000_000)


def test_a_path_keeps_its_temporary_folder() -> None:
    with Emulator() as emulator, direct_session(emulator) as session:
        path = session.run(small_workflow()).image.path
        gc.collect()
        assert path.read_bytes()
        assert (path, hash(path), str(path)) == (Path(path), hash(Path(path)), os.fspath(path))
        assert type(pickle.loads(pickle.dumps(path))) is type(Path())
        folder = path.parent
        del path
        gc.collect()
        assert not folder.exists()


# --- uploads -------------------------------------------------------------------------------------


def test_an_upload_keeps_its_name(tmp_path: Path) -> None:
    with Emulator() as emulator, direct_session(emulator) as session:
        first = session.run(small_workflow(), upload_name="Blick nach Süden.png")
        again = session.run(small_workflow(seed=3), upload_name="Blick nach Süden.png")
        by_field = session.run(small_workflow(seed=4), upload_name={"input_image": "b.png"})
        plain = session.run(small_workflow(seed=5))
        names = [
            each.image.embedded_graph()["16"]["inputs"]["image"]
            for each in (first, again, by_field, plain)
        ]
        with direct_session(emulator) as later:  # what was sent is remembered
            later.run(small_workflow(seed=6), upload_name="Blick nach Süden.png")
        uploads = [r for r in emulator.state()["requests"] if r["path"].endswith("/upload/image")]
    assert names[0].endswith("/Blick nach Süden.png")
    assert names[0] == names[1]
    assert names[2] == f"{names[0].partition('/')[0]}/b.png"
    assert "/" not in names[3]
    assert len(uploads) == 3


def test_pictures_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    from PIL import Image

    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    with Emulator() as emulator, direct_session(emulator) as session:
        found = [
            session.run(small_workflow(each, seed=1), upload_name="x.png", outputs=["image"])
            for each in (red, blue)
        ]
        names = {each.image.embedded_graph()["16"]["inputs"]["image"] for each in found}
    assert len(names) == 2


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/b.png",
        "",
        "x\n.png",
        " x.png",
        "x.",
        "..",
        {"imput_image": "x.png"},
        "a" * 200,
        "a\udc80.png",
        5,
        Path("a.png"),
        ["a.png"],
        {"input_image": 5},
        {5: "a.png"},
    ],
)
def test_a_wrong_name_is_refused(name: Any) -> None:
    with (
        Emulator() as emulator,
        direct_session(emulator) as session,
        pytest.raises(InputValueError, match="upload_name"),
    ):
        session.run(small_workflow(RENDER), upload_name=name)
    assert not emulator.state()["prompts"]
