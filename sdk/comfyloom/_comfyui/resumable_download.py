"""A file that is coming from a server, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    """What has come of a file so far.

    A download goes on where it broke off only if the server says that it is still the same file:
    ComfyUI itself ignores an ETag in `If-Range`, so the tags are compared here.

    Attributes:
        path: Where it lies.
        size: Bytes that have come.
        etag: The server's mark of the file's content, "" where it gives none.
        total: The length that the server told, None where it does not tell.
    """

    path: Path
    size: int = 0
    etag: str = ""
    total: int | None = None

    def fetch(self, server: ComfyUI, file: FileReference, scope: CancelScope) -> None:
        """Fetch what is missing.

        Args:
            server: Where the file is.
            file: Its name there.
            scope: Ends the download.

        Raises:
            NotFound: There is no such file.
            TransportError: It broke off; what has come is kept.
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
            came = self.size
            if came > self.total:
                self._forget()
            raise TransportError(f"{self.path.name}: {came} of {self.total} bytes came")
        if self.total is None and (wrong := formats.complaint(self.path)) is not None:
            # Without a length, only the file itself tells that the connection broke off.
            self._forget()
            raise TransportError(f"{self.path.name}: {wrong}")

    def _begin(self, answer: requests.Response, first: int) -> None:
        """Look at the answer's headers: does it go on, begin anew, or is it of another file?"""
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            # ComfyUI itself sends no file as a page, lest a browser run it.
            raise TransportError(f"{self.path.name}: a gateway's page came instead of the file")
        etag = answer.headers.get("ETag", "")
        if answer.status_code != _PARTIAL:
            self.size, self.etag, self.total = 0, etag, _length(answer)
            if self.total is None or etag.startswith(_WEAK):
                self.etag = ""  # how much is missing, or whether it is the same, would not be known
            return
        span = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not first or span is None or (int(span[1]), int(span[2])) != (first, self.total):
            self._forget()
            raise TransportError(f"{self.path.name}: another part came than was asked for")
        if etag != self.etag:
            self._forget()
            raise TransportError(f"{self.path.name}: the file has changed on the server")

    def _take(self, answer: requests.Response, scope: CancelScope) -> None:
        with self.path.open("r+b" if self.size else "wb") as part:
            part.seek(self.size)
            for chunk in _chunks(answer):
                scope.checkpoint()
                part.write(chunk)
                self.size += len(chunk)

    def _forget(self) -> None:
        self.size, self.etag, self.total = 0, "", None


def _length(answer: requests.Response) -> int | None:
    """Return how many bytes must come, None where the server does not tell."""
    told = answer.headers.get("Content-Length", "")
    encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
    return int(told) if told.isdecimal() and not encoded else None


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """Yield what has come as it comes: a server that trickles must not keep a piece from us.

    A gateway may compress although it was asked not to; then nothing but the end tells the length.
    """
    while piece := answer.raw.read1(_CHUNK, decode_content=True):
        yield piece
