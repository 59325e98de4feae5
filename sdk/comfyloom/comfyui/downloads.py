"""Bringing result files onto this computer, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom import formats
from comfyloom._redact import log
from comfyloom._retry import Backoff
from comfyloom.comfyui.client import ComfyUI
from comfyloom.comfyui.history import FileReference, HistoryEntry
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    NotFound,
    OutputMissing,
    OutputNotWritable,
    TransportError,
)
from comfyloom.outputs import OutputSpec

if TYPE_CHECKING:
    import requests

_CHUNK: Final = 1 << 18
SILENCE_S: Final = 60.0
"""A server that sends nothing for so long has broken off."""


@attrs.frozen
class Download:
    """One result: where it comes from and what the file is called here."""

    spec: OutputSpec
    file: FileReference
    name: str


def plan(entry: HistoryEntry, specs: Sequence[OutputSpec]) -> list[Download]:
    """Return what to download for the results of a run.

    Raises:
        OutputMissing: A result is not there.
    """
    found = [(spec, entry.files(spec.node, spec.key)) for spec in specs]
    missing = [spec for spec, files in found if not files and spec.required]
    if missing:
        raise _missing(entry.prompt_id, missing[0], "the run ended well without it")
    for spec, files in found:
        if len(files) > 1:
            log.warning("result %s: the first of %d files is taken", spec.name, len(files))
    return [Download(spec, files[0], _name(spec, files[0])) for spec, files in found if files]


def fetch(
    server: ComfyUI,
    download: Download,
    folder: Path,
    prompt_id: str,
    *,
    check: Callable[[], float] = lambda: SILENCE_S,
) -> Path:
    """Stream a result into `folder`, check it, and return its path.

    A download that breaks off is begun again, as often as the backoff has it. `check` is called
    before each piece; it gives the seconds that are left, or ends it by raising.

    Raises:
        OutputMissing: The server has no such file, or it is not whole.
        OutputNotWritable: The folder cannot be written.
        TransportError: The download breaks off every time.
    """
    path = folder / download.name
    delays = Backoff().delays()
    while True:
        try:
            check()
            _stream(server, download.file, path, check)
            break
        except NotFound:
            raise _missing(prompt_id, download.spec, "the server has no such file") from None
        except (TransportError, ApiError) as error:
            delay = next(delays, None)
            if delay is None or (isinstance(error, ApiError) and error.is_final):
                raise
            log.warning("downloading %s again: %s", download.name, error)
            server.clock.sleep(delay)
        except ComfyloomError:  # before OSError: our timeouts are TimeoutErrors as well
            raise
        except OSError as error:
            raise _unwritable(path, error) from None
    if (wrong := formats.complaint(path)) is not None:
        raise _missing(prompt_id, download.spec, wrong)
    return path


def _stream(server: ComfyUI, file: FileReference, path: Path, check: Callable[[], float]) -> None:
    silence_s = min(SILENCE_S, check())
    with server.view(file, timeout_s=silence_s) as answer, path.open("wb") as part:
        for chunk in _chunks(answer):
            check()
            part.write(chunk)
        expected = _length(answer)
        if expected is not None and part.tell() != expected:
            raise TransportError(f"{path.name}: {part.tell()} of {expected} bytes came")
    if expected is None and (wrong := formats.complaint(path)) is not None:
        # Without a length, only the file itself tells that the connection broke off.
        raise TransportError(f"{path.name}: {wrong}")


def _length(answer: requests.Response) -> int | None:
    """Return how many bytes must come, None where the server does not tell."""
    told = answer.headers.get("Content-Length", "")
    encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
    return int(told) if told.isdecimal() and not encoded else None


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """Yield what has come as it comes: a server that trickles must not keep a piece from us."""
    while piece := answer.raw.read1(_CHUNK):
        yield piece


def _name(spec: OutputSpec, file: FileReference) -> str:
    """Return our own name for the file; the server's may only be a plain one."""
    if spec.file:
        return spec.file
    plain = file.filename.replace("\\", "/").rpartition("/")[2].lstrip(".")
    return f"{spec.name}_{plain}" if plain else spec.name


def _missing(prompt_id: str, spec: OutputSpec, reason: str) -> OutputMissing:
    return OutputMissing(
        f"result {spec.name} (node {spec.node}): {reason}",
        prompt_id=prompt_id,
        field=spec.name,
        node=spec.node,
    )


def _unwritable(path: Path, error: OSError) -> OutputNotWritable:
    return OutputNotWritable(f"cannot write {path}: {error.strerror or error}", path=str(path))
