"""Malformed, unknown and oversized frames; a client must survive all of them."""

import json
import struct

_PREVIEW, _JPEG = 1, 1

MALFORMED_FRAMES: tuple[str | bytes, ...] = (
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
UNKNOWN_FRAMES: tuple[str | bytes, ...] = (
    '{"type": "assets.seeded", "data": {"prompt_id": null}}',
    *(struct.pack(">II", kind, 12) + b"no such type" for kind in (0, 2, 77, 0xFFFFFFFF)),
)
_OVERSIZED_BYTES = 20_000_000


def oversized_frames() -> list[str | bytes]:
    """Return a text and a binary frame that are much larger than any event."""
    text = json.dumps({"type": "crystools.monitor", "data": {"text": "x" * _OVERSIZED_BYTES}})
    return [text, struct.pack(">II", _PREVIEW, _JPEG) + bytes(_OVERSIZED_BYTES)]
