"""A download that can be resumed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import FileReference
from comfyloom._workflow import formats
from comfyloom.errors import ApiError, TransportError

if TYPE_CHECKING:
    import requests

_CHUNK: Final = 1 << 20
_WEAK: Final = "W/"
_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


@attrs.define
class ResumableDownload:
    """A partly downloaded file.

    It is resumed only if its ETag is unchanged: ComfyUI ignores an ETag in `If-Range`, so the tags
    are compared here.

    Attributes:
        size: Bytes received.
        etag: The file's ETag, "" if it has none.
        total: The length that the server reports, None if it does not.
    """

    path: Path
    size: int = 0
    etag: str = ""
    total: int | None = None

    def fetch(self, server: ComfyUI, file: FileReference, scope: CancelScope) -> None:
        """Fetch what is missing.

        Raises:
            NotFound: The server does not have the file.
            TransportError: It broke off; what was received is kept.
            ApiError: Another refusal.
            OSError: It cannot be written.
        """
        first = self.size if self.etag else 0
        try:
            silence_s = min(server.timeouts.download_s, scope.checkpoint())
            with server.view(file, first=first, timeout_s=silence_s) as answer:
                self._begin(answer, first)
                self._take(answer, scope)
        except ApiError as error:
            if error.status != _UNSATISFIABLE:
                raise
            self._forget()
            raise TransportError(f"{self.path.name}: the file has changed on the server") from None
        if self.total is not None and self.size != self.total:
            text = f"{self.path.name}: received {self.size} of {self.total} bytes"
            if self.size > self.total:
                self._forget()
            raise TransportError(text)
        if self.total is None and (wrong := formats.complaint(self.path)) is not None:
            # Without a length, only the file itself shows that the connection broke off.
            self._forget()
            raise TransportError(f"{self.path.name}: {wrong}")

    def _begin(self, answer: requests.Response, first: int) -> None:
        """Check the headers: does the answer resume, restart, or belong to another file?"""
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            # ComfyUI never sends a file as HTML, so that a browser does not run it.
            raise TransportError(f"{self.path.name}: received a gateway's page instead of the file")
        etag = answer.headers.get("ETag", "")
        if answer.status_code != _PARTIAL:
            length = answer.headers.get("Content-Length", "")
            self.size, self.etag = 0, etag
            is_exact = length.isdecimal() and not _is_encoded(answer)
            self.total = int(length) if is_exact else None
            if self.total is None or etag.startswith(_WEAK):
                self.etag = ""  # cannot be resumed safely
            return
        span = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not first or span is None or (int(span[1]), int(span[2])) != (first, self.total):
            self._forget()
            raise TransportError(f"{self.path.name}: received another range than requested")
        if etag != self.etag:
            self._forget()
            raise TransportError(f"{self.path.name}: the file has changed on the server")

    def _take(self, answer: requests.Response, scope: CancelScope) -> None:
        # A gateway may compress although it was asked not to; decoding copies each piece twice.
        is_encoded = _is_encoded(answer)
        with self.path.open("r+b" if self.size else "wb") as part:
            part.seek(self.size)
            # `read1` returns what has arrived: a slow server must not block the scope's check.
            while chunk := answer.raw.read1(_CHUNK, decode_content=is_encoded):
                scope.checkpoint()
                part.write(chunk)
                self.size += len(chunk)

    def _forget(self) -> None:
        self.size, self.etag, self.total = 0, "", None


def _is_encoded(answer: requests.Response) -> bool:
    return answer.headers.get("Content-Encoding", "identity") != "identity"
