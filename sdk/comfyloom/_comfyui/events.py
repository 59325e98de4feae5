"""Parsing the frames of ComfyUI's WebSocket; an unknown frame is None, never an error."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Final

import attrs

from comfyloom._core.json import mapping, text

_PREVIEW: Final = 1
_TEXT: Final = 3
_PREVIEW_WITH_METADATA: Final = 4


@attrs.frozen(kw_only=True)
class ServerEvent:
    """One frame.

    Attributes:
        type: The server's name for it; `preview` and `text` for binary frames.
        prompt_id: Its run, None if the frame does not name one.
        node: The id of the node in the graph, None if there is none.
        data: The unparsed rest.
        blob: The image of a preview.
    """

    type: str
    prompt_id: str | None = None
    node: str | None = None
    data: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    blob: bytes | None = attrs.field(default=None, repr=False)


def parse_frame(frame: str | bytes) -> ServerEvent | None:
    """Return the event in a frame, None if it is unknown or malformed."""
    if isinstance(frame, bytes):
        return _parse_binary(frame)
    try:
        message = mapping(json.loads(frame))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message.get("type"), str):
        return None
    data = mapping(message.get("data"))
    return ServerEvent(
        type=message["type"], prompt_id=text(data.get("prompt_id")), node=_node(data), data=data
    )


def _parse_binary(frame: bytes) -> ServerEvent | None:
    if len(frame) < 8:
        return None
    kind, word = struct.unpack_from(">II", frame)
    body = frame[8:]
    if kind == _PREVIEW:
        return ServerEvent(type="preview", blob=body)
    if kind == _PREVIEW_WITH_METADATA:
        return _preview_with_metadata(body[:word], body[word:])
    if kind == _TEXT:
        data = {"text": body[word:].decode("utf-8", "replace")}
        return ServerEvent(type="text", node=body[:word].decode("utf-8", "replace"), data=data)
    return None


def _preview_with_metadata(head: bytes, picture: bytes) -> ServerEvent | None:
    try:
        data = mapping(json.loads(head))
    except (ValueError, RecursionError):
        return None
    prompt_id = text(data.get("prompt_id"))
    node = text(data.get("display_node_id")) or text(data.get("node_id"))
    return ServerEvent(type="preview", prompt_id=prompt_id, node=node, data=data, blob=picture)


def _node(data: Mapping[str, Any]) -> str | None:
    """Return the node of the graph: an expanded node (`1.0.0.2`) stands for `display_node`."""
    names = ("display_node", "display_node_id", "node", "node_id")
    return next((node for name in names if (node := text(data.get(name)))), None)
