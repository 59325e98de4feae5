"""Frames that no client should fall over."""

import json
import struct

_PREVIEW, _JPEG = 1, 1

GARBAGE: tuple[str | bytes, ...] = (
    "",
    "{not json",
    "[]",
    "null",
    '{"type": 5, "data": []}',
    '{"type": "executing"}',
    '{"type": "executing", "data": {"node": ["16"], "prompt_id": 7}}',
    '{"type": "progress", "data": {"value": "x", "max": null, "node": 3, "prompt_id": []}}',
    '{"type": "progress_state", "data": {"nodes": [1], "prompt_id": null}}',
    '{"type": "status", "data": {"status": NaN}}',
    "[" * 20_000,
    b"",
    b"\x00",
    b"\x00\x00\x00\x04\xff\xff\xff\xff{}",
    b"\x00\x00\x00\x03\x00\x00\x00\x09\xff",
)
UNKNOWN: tuple[str | bytes, ...] = (
    '{"type": "assets.seeded", "data": {"prompt_id": null}}',
    *(struct.pack(">II", kind, 12) + b"no such type" for kind in (0, 2, 77, 0xFFFFFFFF)),
)
_FLOOD_BYTES = 20_000_000


def flood() -> list[str | bytes]:
    """Two frames that are much larger than any event."""
    text = json.dumps({"type": "crystools.monitor", "data": {"text": "x" * _FLOOD_BYTES}})
    return [text, struct.pack(">II", _PREVIEW, _JPEG) + bytes(_FLOOD_BYTES)]
