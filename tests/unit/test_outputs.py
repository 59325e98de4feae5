"""Results are saved whole, or not at all."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfyloom.errors import OutputNotWritable
from comfyloom.outputs import ImageOutput
from comfyloom.spool import Spool, check_writable


@pytest.fixture
def output(tmp_path: Path) -> ImageOutput:
    path = tmp_path / "spool" / "flux.png"
    path.parent.mkdir()
    path.write_bytes(b"picture")
    return ImageOutput(path)


def test_save_to_a_name_and_into_a_folder(tmp_path: Path, output: ImageOutput) -> None:
    target = tmp_path / "mine.png"
    target.write_bytes(b"older")
    assert output.save(target) == target
    assert target.read_bytes() == b"picture"
    assert output.save(str(tmp_path)) == tmp_path / "flux.png"
    assert output.bytes() == b"picture"
    assert output.size == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flux.png", "mine.png", "spool"]


def test_a_saved_file_has_the_permissions_of_a_new_one(tmp_path: Path, output: ImageOutput) -> None:
    (tmp_path / "new").touch()
    saved = output.save(tmp_path / "mine.png")
    assert saved.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_place_that_cannot_be_written(tmp_path: Path, output: ImageOutput) -> None:
    with pytest.raises(OutputNotWritable, match="No such file or directory") as caught:
        output.save(tmp_path / "nowhere" / "x.png")
    assert caught.value.path.endswith("x.png")


def test_a_spool_without_a_folder_lives_as_long_as_its_outputs(tmp_path: Path) -> None:
    spool = Spool()
    folder = spool.folder
    (folder / "flux.png").write_bytes(b"x")
    (path,) = spool.publish([folder / "flux.png"])
    spool.close()
    output = ImageOutput(path, spool)
    del spool
    gc.collect()
    assert output.bytes() == b"x"
    del output
    gc.collect()
    assert not folder.exists()


def test_a_spool_with_a_folder_publishes_all_at_once(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    spool = Spool(out)
    for name in ("a", "b"):
        (spool.folder / name).write_bytes(name.encode())
    assert [path.name for path in out.iterdir()] == [spool.folder.name]
    assert spool.publish([spool.folder / "a", spool.folder / "b"]) == [out / "a", out / "b"]
    spool.close()
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("there_before", [True, False])
def test_a_spool_that_cannot_publish_all_publishes_nothing(
    tmp_path: Path, there_before: bool
) -> None:
    out = tmp_path / "out"
    (out / "b").mkdir(parents=True)
    if there_before:
        (out / "a").write_bytes(b"older")
    spool = Spool(out)
    for name in ("a", "b"):
        (spool.folder / name).write_bytes(b"newer")
    with pytest.raises(OutputNotWritable, match="b is a folder"):
        spool.publish([spool.folder / "a", spool.folder / "b"])
    spool.close()
    assert (out / "a").exists() == there_before
    assert not there_before or (out / "a").read_bytes() == b"older"
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"] if there_before else ["b"]


def test_saving_in_many_threads_leaves_the_umask_alone(tmp_path: Path, output: ImageOutput) -> None:
    before = os.umask(0o022)
    os.umask(before)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: output.save(tmp_path / f"{n}.png"), range(100)))
    after = os.umask(before)
    assert after == before


def test_a_discarded_spool_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "out")
    (spool.folder / "half").write_bytes(b"x")
    spool.close()
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputNotWritable, match="cannot write into"):
        check_writable(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputNotWritable, match="Permission denied"):
        check_writable(tmp_path / "out")


def test_folders_that_were_made_for_nothing_are_gone_again(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", ["flux.png"])
    assert list(tmp_path.iterdir()) == []
    spool = Spool(tmp_path / "a" / "b")
    (tmp_path / "a" / "mine.txt").write_text("x")
    spool.close()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.txt"]


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert tmp_path.is_dir()
