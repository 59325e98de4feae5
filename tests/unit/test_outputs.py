"""Outputs are saved completely or not at all, and open in other libraries and notebooks."""

from __future__ import annotations

import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfyloom._session.staging import StagingDir, check_writable
from comfyloom._workflow.outputs import ImageOutput, MeshOutput
from comfyloom.errors import ConfigError, OutputMissing, OutputNotWritable


@pytest.fixture
def output(tmp_path: Path) -> ImageOutput:
    path = tmp_path / "staging" / "flux.png"
    path.parent.mkdir()
    path.write_bytes(b"picture")
    return ImageOutput(path)


def test_an_output_is_saved_to_a_file_name_or_into_a_folder(
    tmp_path: Path, output: ImageOutput
) -> None:
    target = tmp_path / "mine.png"
    target.write_bytes(b"older")
    assert output.save(target) == target
    assert target.read_bytes() == b"picture"
    assert output.save(str(tmp_path)) == tmp_path / "flux.png"
    assert output.bytes() == b"picture"
    assert output.size == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flux.png", "mine.png", "staging"]


def test_a_saved_file_has_the_permissions_of_a_new_one(tmp_path: Path, output: ImageOutput) -> None:
    (tmp_path / "new").touch()
    saved = output.save(tmp_path / "mine.png")
    assert saved.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_saving_to_a_missing_folder_is_an_error(tmp_path: Path, output: ImageOutput) -> None:
    with pytest.raises(OutputNotWritable, match="No such file or directory") as caught:
        output.save(tmp_path / "nowhere" / "x.png")
    assert caught.value.path.endswith("x.png")


def test_a_temporary_staging_folder_lives_as_long_as_its_outputs(tmp_path: Path) -> None:
    staging = StagingDir()
    folder = staging.folder
    (folder / "flux.png").write_bytes(b"x")
    (path,) = staging.publish([folder / "flux.png"])
    staging.close()
    output = ImageOutput(path, staging)
    del staging
    gc.collect()
    assert output.bytes() == b"x"
    del output
    gc.collect()
    assert not folder.exists()


def test_a_staging_folder_publishes_all_files_at_once(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    staging = StagingDir(out)
    for name in ("a", "b"):
        (staging.folder / name).write_bytes(name.encode())
    assert [path.name for path in out.iterdir()] == [staging.folder.name]
    assert staging.publish([staging.folder / "a", staging.folder / "b"]) == [out / "a", out / "b"]
    staging.close()
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("existed_before", [True, False])
def test_a_staging_folder_publishes_all_files_or_none(tmp_path: Path, existed_before: bool) -> None:
    out = tmp_path / "out"
    (out / "b").mkdir(parents=True)
    if existed_before:
        (out / "a").write_bytes(b"older")
    staging = StagingDir(out)
    for name in ("a", "b"):
        (staging.folder / name).write_bytes(b"newer")
    with pytest.raises(OutputNotWritable, match="b is a folder"):
        staging.publish([staging.folder / "a", staging.folder / "b"])
    staging.close()
    assert (out / "a").exists() == existed_before
    assert not existed_before or (out / "a").read_bytes() == b"older"
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"] if existed_before else ["b"]


def test_saving_in_many_threads_does_not_change_the_umask(
    tmp_path: Path, output: ImageOutput
) -> None:
    before = os.umask(0o022)
    os.umask(before)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: output.save(tmp_path / f"{n}.png"), range(100)))
    after = os.umask(before)
    assert after == before


def test_a_discarded_staging_folder_leaves_nothing(tmp_path: Path) -> None:
    staging = StagingDir(tmp_path / "out")
    (staging.folder / "half").write_bytes(b"x")
    staging.close()
    assert not (tmp_path / "out").exists()


def test_a_file_cannot_be_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputNotWritable, match="cannot write into"):
        check_writable(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_an_output_folder_needs_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputNotWritable, match="Permission denied"):
        check_writable(tmp_path / "out")


def test_folders_created_in_vain_are_removed(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", ["flux.png"])
    assert list(tmp_path.iterdir()) == []
    staging = StagingDir(tmp_path / "a" / "b")
    (tmp_path / "a" / "mine.txt").write_text("x")
    staging.close()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.txt"]


def test_an_existing_folder_stays(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert tmp_path.is_dir()


def image_output(tmp_path: Path, mode: str, suffix: str = ".png") -> ImageOutput:
    from PIL import Image

    path = tmp_path / f"{mode}{suffix}"
    Image.new("RGB", (6, 4), (255, 0, 9)).convert(mode).save(path)
    return ImageOutput(path)


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4), ("P", 3), ("LA", 4), ("1", 3)]
)
def test_an_image_opens_in_pillow_and_numpy(tmp_path: Path, mode: str, channels: int) -> None:
    output = image_output(tmp_path, mode)
    assert output.pil().size == (6, 4)
    pixels = output.numpy()
    assert (pixels.shape, pixels.dtype) == ((4, 6, channels), "uint8")
    output.path.unlink()  # both are loaded in full
    assert pixels.max() > 0


def test_an_image_is_displayed_in_a_notebook(tmp_path: Path) -> None:
    png, jpeg = image_output(tmp_path, "RGB"), image_output(tmp_path, "RGB", ".jpg")
    assert (png._repr_png_(), png._repr_jpeg_()) == (png.bytes(), None)
    assert (jpeg._repr_png_(), jpeg._repr_jpeg_()) == (None, jpeg.bytes())


def test_a_file_that_is_not_an_image_or_mesh_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"not an image")
    with pytest.raises(OutputMissing, match=r"x\.png: Pillow cannot read it"):
        ImageOutput(path).pil()
    assert ImageOutput(path).embedded_graph() is None
    path = tmp_path / "x.glb"
    path.write_bytes(b"not a mesh")
    with pytest.raises(OutputMissing, match=r"x\.glb: trimesh cannot read it"):
        MeshOutput(path).trimesh()


def test_a_mesh_opens_in_trimesh_and_is_displayed_in_a_notebook(tmp_path: Path) -> None:
    import trimesh

    path = tmp_path / 'a "b" <c>.glb'
    trimesh.creation.box().export(str(path), file_type="glb")
    output = MeshOutput(path)
    assert len(output.trimesh().to_geometry().faces) == 12
    html = output._repr_html_()
    assert html.startswith("<iframe ")
    assert "&quot;b&quot; &lt;c&gt;.glb" in html
    assert html.count("<") == 2  # the embedded page is escaped


@pytest.mark.parametrize(("module", "extra"), [("PIL.Image", "images"), ("trimesh", "meshes")])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    image, mesh = image_output(tmp_path, "RGB"), MeshOutput(tmp_path / "x.glb")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'comfyloom\[{extra}\]'"):
        image.pil() if extra == "images" else mesh.trimesh()


@pytest.mark.parametrize(
    ("text", "graph"),
    [
        ('{"1": {"class_type": "X", "inputs": {}}}', {"1": {"class_type": "X", "inputs": {}}}),
        ("[]", None),
        ("{", None),
        ("[" * 10**5, None),
    ],
)
def test_the_embedded_graph_of_an_image_is_read(tmp_path: Path, text: str, graph: object) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", text)
    path = tmp_path / "x.png"
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    assert ImageOutput(path).embedded_graph() == graph
