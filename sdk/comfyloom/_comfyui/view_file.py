"""Streaming one output file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from comfyloom._comfyui.answers import raise_for_status
from comfyloom._comfyui.history import FileReference
from comfyloom._http.retry import NO_RETRY
from comfyloom._http.transport import Transport

if TYPE_CHECKING:
    import requests


@contextmanager
def view_file(
    http: Transport, file: FileReference, *, first: int = 0, timeout_s: float | None = None
) -> Generator[requests.Response]:
    """Stream one output file; tried once, because the reader resumes it.

    Args:
        http: The connections to the server.
        file: The file.
        first: The offset of the first byte wanted.
        timeout_s: Longest silence of the server, in seconds.

    Raises:
        NotFound: The server does not have the file (any more).
        ApiError: Another refusal.
        TransportError: No answer, or the answer broke off.
    """
    query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
    # With compression, the length could not be checked.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={first}-"} if first else {})
    options: dict[str, Any] = {"backoff": NO_RETRY, "timeout_s": timeout_s}
    with http.stream("/view", params=query, headers=headers, **options) as answer:
        raise_for_status(answer, "GET /view")
        yield answer
