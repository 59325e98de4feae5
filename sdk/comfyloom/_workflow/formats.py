"""Checking that a PNG or GLB file is complete, by its structure only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TRUNCATED: Final = "the PNG is truncated"
_GLB_VERSION: Final = 2
_GLB_HEADER: Final = 12


def complaint(path: Path) -> str | None:
    """Return what is wrong with a file, None if nothing is.

    The suffix of its name selects the check: a PNG must have a signature and complete chunks up to
    IEND, a binary glTF a header and complete chunks up to the length in the header. A file with
    another suffix must not be empty.
    """
    size = path.stat().st_size
    if not size:
        return "it is empty"
    check = _CHECKS.get(path.suffix.lower())
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, size)


def is_truncated(file: BinaryIO, size: int) -> bool:
    """Return whether a PNG is truncated; data after its end, as some tools append, is allowed."""
    return _png(file, size) == _TRUNCATED


def _png(file: BinaryIO, size: int) -> str | None:
    """Check the chunks: `length, type, content, CRC` (PNG specification, W3C)."""
    if file.read(len(_PNG)) != _PNG:
        return "it is not a PNG"
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        end = file.seek(length + 4, 1)
        if kind == b"IEND":
            return None if end == size else "it has data after the end of the PNG"
        if end > size:
            break
    return _TRUNCATED


def _glb(file: BinaryIO, size: int) -> str | None:
    """Check the chunks after the header `glTF, version, length` (Khronos glTF 2.0, section 4.4)."""
    head = file.read(_GLB_HEADER)
    if len(head) < _GLB_HEADER or head[:4] != b"glTF":
        return "it is not a binary glTF"
    version, length = struct.unpack_from("<II", head, 4)
    if version != _GLB_VERSION:
        return f"it is glTF {version}, not {_GLB_VERSION}"
    if length != size:
        return f"it is truncated: {size} of {length} bytes"
    at = _GLB_HEADER
    while at < size and len(word := file.read(8)) == 8:
        at = file.seek(struct.unpack_from("<I", word)[0], 1)
    return None if at == size else "its chunks do not end at its length"


_CHECKS: Final[Mapping[str, Callable[[BinaryIO, int], str | None]]] = {".png": _png, ".glb": _glb}
