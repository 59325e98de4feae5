"""Whether a file is whole: the structure of a PNG or GLB, read without its content."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_CUT_OFF: Final = "the PNG is cut off"
_GLB_VERSION: Final = 2
_GLB_HEADER: Final = 12


def complaint(path: Path) -> str | None:
    """Return what is wrong with a file by the suffix of its name, None if nothing is.

    A PNG must run from its signature through whole chunks to IEND, a binary glTF from its header
    through whole chunks to the length that the header gives; any file must not be empty.
    """
    size = path.stat().st_size
    if not size:
        return "it is empty"
    check = _CHECKS.get(path.suffix.lower())
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, size)


def is_cut_off(file: BinaryIO, size: int) -> bool:
    """Return whether a PNG ends before its end; what some tools append to one does no harm."""
    return _png(file, size) == _CUT_OFF


def _png(file: BinaryIO, size: int) -> str | None:
    """Walk the chunks: `length, type, content, CRC`, as the PNG specification (W3C) has them."""
    if file.read(len(_PNG)) != _PNG:
        return "it is no PNG"
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        end = file.seek(length + 4, 1)
        if kind == b"IEND":
            return None if end == size else "it does not end where its PNG ends"
        if end > size:
            break
    return _CUT_OFF


def _glb(file: BinaryIO, size: int) -> str | None:
    """Walk the chunks after the header `glTF, version, length` (Khronos glTF 2.0, section 4.4)."""
    head = file.read(_GLB_HEADER)
    if len(head) < _GLB_HEADER or head[:4] != b"glTF":
        return "it is no binary glTF"
    version, length = struct.unpack_from("<II", head, 4)
    if version != _GLB_VERSION:
        return f"it is glTF {version}, not {_GLB_VERSION}"
    if length != size:
        return f"it is cut off: {size} of {length} bytes"
    at = _GLB_HEADER
    while at < size and len(word := file.read(8)) == 8:
        at = file.seek(struct.unpack_from("<I", word)[0], 1)
    return None if at == size else "its chunks do not fill it"


_CHECKS: Final[Mapping[str, Callable[[BinaryIO, int], str | None]]] = {".png": _png, ".glb": _glb}
