"""A file that is truncated at any byte is not taken for complete."""

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


def check(folder: Path, name: str, content: bytes) -> str | None:
    path = folder / name
    path.write_bytes(content)
    return complaint(path)


def test_a_complete_file_has_no_problem(tmp_path: Path, render: Path) -> None:
    assert check(tmp_path, "a.png", PNG) is None
    assert check(tmp_path, "a.glb", GLB) is None
    assert check(tmp_path, "a.bin", b"anything") is None
    assert complaint(render) is None


@pytest.mark.parametrize(("name", "complete"), [("a.png", PNG), ("a.glb", GLB)])
def test_a_file_truncated_at_any_byte_is_detected(
    tmp_path: Path, name: str, complete: bytes
) -> None:
    for length in range(len(complete)):
        assert check(tmp_path, name, complete[:length]), length
    assert check(tmp_path, name, complete + b"x")


def test_another_format_under_the_same_suffix_is_detected(tmp_path: Path) -> None:
    assert check(tmp_path, "a.png", b"<html>502</html>") == "it is not a PNG"
    assert check(tmp_path, "a.glb", PNG) == "it is not a binary glTF"
    assert check(tmp_path, "a.glb", b"glTF" + struct.pack("<II", 1, 12)) == "it is glTF 1, not 2"


@given(st.binary(max_size=200))
def test_any_bytes_can_be_checked(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, start in (("h.png", PNG[:8]), ("h.glb", GLB[:4])):
        check(folder, name, start + content)
