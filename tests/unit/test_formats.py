"""A file that is cut off anywhere is not taken for whole."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyloom._workflow.formats import complaint


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", bytes(13))
    + chunk(b"IDAT", b"x" * 50)
    + chunk(b"IEND", b"")
)
_BODY = (
    struct.pack("<II", 8, 0x4E4F534A) + b'{"a":1} ' + struct.pack("<II", 4, 0x004E4942) + b"abcd"
)
GLB = b"glTF" + struct.pack("<II", 2, 12 + len(_BODY)) + _BODY


def judge(folder: Path, name: str, content: bytes) -> str | None:
    path = folder / name
    path.write_bytes(content)
    return complaint(path)


def test_whole_files(tmp_path: Path, render: Path) -> None:
    assert judge(tmp_path, "a.png", PNG) is None
    assert judge(tmp_path, "a.glb", GLB) is None
    assert judge(tmp_path, "a.bin", b"anything") is None
    assert complaint(render) is None


@pytest.mark.parametrize(("name", "whole"), [("a.png", PNG), ("a.glb", GLB)])
def test_a_file_cut_at_any_byte_is_found_out(tmp_path: Path, name: str, whole: bytes) -> None:
    for length in range(len(whole)):
        assert judge(tmp_path, name, whole[:length]), length
    assert judge(tmp_path, name, whole + b"x")


def test_other_formats_under_our_names(tmp_path: Path) -> None:
    assert judge(tmp_path, "a.png", b"<html>502</html>") == "it is no PNG"
    assert judge(tmp_path, "a.glb", PNG) == "it is no binary glTF"
    assert judge(tmp_path, "a.glb", b"glTF" + struct.pack("<II", 1, 12)) == "it is glTF 1, not 2"


@given(st.binary(max_size=200))
def test_no_bytes_break_the_checks(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, start in (("h.png", PNG[:8]), ("h.glb", GLB[:4])):
        judge(folder, name, start + content)
