"""The cache of uploads: what it believes, keeps, and survives."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from comfyloom._comfyui.upload_cache import KEPT_S, UploadCache


@pytest.fixture
def cache(tmp_path: Path) -> UploadCache:
    return UploadCache(tmp_path / "uploads" / "server")


def test_what_was_put_is_got_until_it_is_dropped(cache: UploadCache) -> None:
    assert cache.get("abc.png") is None
    cache.put("abc.png", "sub folder/abc (1).png")
    assert cache.get("abc.png") == "sub folder/abc (1).png"
    cache.drop("abc.png")
    cache.drop("abc.png")
    assert cache.get("abc.png") is None


@pytest.mark.parametrize("stored", ["", "a\nb", "x,y.png", "x" * 301, "a;b"])
def test_a_name_that_could_not_be_read_back_is_not_kept(cache: UploadCache, stored: str) -> None:
    cache.put("abc.png", stored)
    assert not (cache.folder / "abc.png").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\x00b", b"line\n", b"x" * 400])
def test_a_damaged_entry_is_another_upload(cache: UploadCache, content: bytes) -> None:
    cache.put("abc.png", "abc.png")
    (cache.folder / "abc.png").write_bytes(content)
    assert cache.get("abc.png") is None


def test_the_folder_does_not_reveal_the_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMFYLOOM_CACHE_DIR", str(tmp_path))
    url = "https://secret-comfyui.runcomfy.com"
    found = UploadCache.of(url)
    assert found == UploadCache.of(url)
    assert found != UploadCache.of(f"{url}/other")
    assert "secret" not in str(found.folder)


def test_the_uploads_of_servers_that_are_gone_are_removed(cache: UploadCache) -> None:
    old, young = (cache.folder.parent / name for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "abc.png").write_text("abc.png")
    long_ago = time.time() - KEPT_S - 60
    os.utime(old, (long_ago, long_ago))
    cache.put("abc.png", "abc.png")
    assert not old.exists()
    assert young.exists()
    assert cache.get("abc.png") == "abc.png"


def test_a_folder_that_cannot_be_written_only_costs_another_upload(
    cache: UploadCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.folder.parent.mkdir(parents=True)
    cache.folder.write_text("a file where the folder belongs")
    with caplog.at_level("DEBUG", "comfyloom"):
        cache.put("abc.png", "abc.png")
        cache.drop("abc.png")
    assert cache.get("abc.png") is None
    assert len(caplog.messages) == 2
