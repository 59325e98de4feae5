"""Reading the workflow that ComfyUI embeds in the images and meshes it saves."""

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
_MAX_TEXT: Final = 1 << 26
"""The most bytes that compressed text may unpack to."""


@attrs.frozen
class Embedded:
    """The workflow in a file.

    Attributes:
        api: The workflow in API format as JSON text, None if the file has none.
        has_other: Whether the file has a workflow in another format.
    """

    api: str | None = None
    has_other: bool = False


def may_have_workflow(head: bytes) -> bool:
    """Return whether a file with these first bytes has a format that can carry a workflow."""
    return head.startswith((_PNG, _GLB))


def workflow_of(content: bytes) -> Embedded:
    """Return the workflow in a PNG (text chunk `prompt`) or binary glTF (`asset.extras.prompt`).

    Args:
        content: The whole file; one that is truncated or of another format has no workflow.
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
    """Yield the key and the text of each text chunk: PNG specification (W3C), section 11.3.3."""
    at = len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        at += 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt") and at <= len(content):
            key, _, rest = body.partition(b"\0")
            with contextlib.suppress(ValueError, zlib.error):  # the next chunk may be readable
                yield key.decode("latin-1"), _png_text(kind, rest)


def _png_text(kind: bytes, rest: bytes) -> str:
    if kind == b"tEXt":
        # The specification demands Latin-1, but many programs write UTF-8.
        return _decode(rest)
    if kind == b"zTXt":
        return _decode(_decompress(rest[1:]))
    is_compressed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    return (_decompress(text) if is_compressed else text).decode()


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _decompress(raw: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(raw, _MAX_TEXT)
    if not decompressor.eof:
        raise ValueError("the compressed text is truncated or too long")
    return text


def _glb_texts(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the asset's extras from the first chunk: glTF 2.0 (Khronos), section 4.4.3."""
    length, kind = struct.unpack_from("<I4s", content, 12)
    if kind != b"JSON":
        return
    asset = mapping(mapping(json.loads(content[20 : 20 + length])).get("asset"))
    for key, value in mapping(asset.get("extras")).items():
        yield key, value if isinstance(value, str) else json.dumps(value)
