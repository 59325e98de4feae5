"""Workflows that ComfyUI has put into the pictures and meshes it saved."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Final

import attrs

from comfyloom._core.json import mapping

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_GLB: Final = b"glTF"
_LONGEST: Final = 1 << 26
"""No compressed text is unpacked beyond so many bytes."""


@attrs.frozen
class Embedded:
    """What a file carries: the workflow in API format, and whether one in another format."""

    api: str | None = None
    has_other: bool = False


def can_hold(head: bytes) -> bool:
    """Return whether a file that begins so is of a kind that can carry a workflow."""
    return head.startswith((_PNG, _GLB))


def workflow_of(content: bytes) -> Embedded:
    """Return what a PNG (a text chunk `prompt`) or binary glTF (`asset.extras.prompt`) carries.

    Args:
        content: The whole file; of any other kind, or cut off, it carries nothing.
    """
    texts: dict[str, str] = {}
    try:
        if content.startswith(_PNG):
            texts = dict(_png_texts(content))
        elif content.startswith(_GLB):
            texts = dict(_glb_texts(content))
    except (ValueError, struct.error, zlib.error, RecursionError):
        texts = {}
    return Embedded(texts.get("prompt"), has_other="workflow" in texts)


def _png_texts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield key and text of each text chunk: PNG specification (W3C), section 11.3.3."""
    at = len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        at += 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt") and at <= len(content):
            key, _, rest = body.partition(b"\0")
            with contextlib.suppress(ValueError, zlib.error):  # the next one may be whole
                yield key.decode("latin-1"), _png_text(kind, rest)


def _png_text(kind: bytes, rest: bytes) -> str:
    if kind == b"tEXt":
        # Latin-1 by the letter of the specification; what is UTF-8 was meant as UTF-8.
        return _decoded(rest)
    if kind == b"zTXt":
        return _decoded(_unpacked(rest[1:]))
    is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    return (_unpacked(text) if is_packed else text).decode()


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _unpacked(raw: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(raw, _LONGEST)
    if not unpacking.eof:
        raise ValueError("a text that is cut off, or too long")
    return text


def _glb_texts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the extras of the asset, from the first chunk: glTF 2.0 (Khronos), section 4.4.3."""
    length, kind = struct.unpack_from("<I4s", content, 12)
    if kind != b"JSON":
        return
    asset = mapping(mapping(json.loads(content[20 : 20 + length])).get("asset"))
    for key, value in mapping(asset.get("extras")).items():
        yield key, value if isinstance(value, str) else json.dumps(value)
