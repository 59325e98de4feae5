"""Downloading result files, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._comfyui.history import FileReference, HistoryEntry
from comfyloom._comfyui.resumable_download import ResumableDownload
from comfyloom._core.redact import log
from comfyloom._core.threads import map_in_threads
from comfyloom._workflow import formats
from comfyloom._workflow.outputs import OutputSpec
from comfyloom.errors import (
    ApiError,
    ComfyloomError,
    NotFound,
    OutputGone,
    OutputMissing,
    OutputNotWritable,
    TransportError,
)

T = TypeVar("T")

# Characters that some file systems reject, or that control a terminal.
_UNWANTED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f<>:\"|?*]")
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,12}$")
_PLAIN: Final = {".jpeg": ".jpg", ".tiff": ".tif", ".mpeg": ".mpg", ".htm": ".html"}
_GONE: Final = (
    "the server does not have the file (any more). A cached result names the file of an earlier "
    "run; if that was deleted, run(fresh=True) lets it be made again, or change the seed"
)
AT_ONCE: Final = 4
WORTH_BYTES: Final = 1 << 20


@attrs.frozen
class Download:
    """One result file: where it comes from, and its local name."""

    spec: OutputSpec
    file: FileReference
    name: str


def plan(entry: HistoryEntry, specs: Sequence[OutputSpec]) -> list[Download]:
    """Return the files to download for the results of a run.

    Raises:
        OutputMissing: A required result is missing.
    """
    wanted: list[Download] = []
    for spec in specs:
        files = _demanded(entry, spec, _files(entry, spec)) if spec.is_file else ()
        for number, file in enumerate(files, 1):
            wanted.append(Download(spec, file, _name(spec, file, number)))
    return _of_different_names(wanted)


def values_of(entry: HistoryEntry, specs: Sequence[OutputSpec]) -> dict[str, Any]:
    """Return the results of a run that are not files, by name.

    Raises:
        OutputMissing: A required result is missing.
    """
    found: dict[str, Any] = {}
    for spec in specs:
        if spec.kind == "json":
            ui = next(iter(entry.reports(spec.node)), None)
            found[spec.name] = ui.get(spec.key) if ui is not None and spec.key else ui
        elif spec.kind == "text":
            texts = _demanded(entry, spec, entry.texts(spec.node, spec.key))
            found[spec.name] = texts if spec.many else next(iter(texts), None)
    return found


def _files(entry: HistoryEntry, spec: OutputSpec) -> Sequence[FileReference]:
    files = entry.files(spec.node, spec.key, has_paths=spec.kind == "mesh")
    if spec.many:
        return list(dict.fromkeys(file for file in files if file.type == files[0].type))
    if len(files) > 1:
        log.warning("result %s: using the first of %d files", spec.name, len(files))
    return files[:1]


def _demanded(entry: HistoryEntry, spec: OutputSpec, found: Sequence[T]) -> Sequence[T]:
    if not found and spec.required:
        raise _missing(entry.prompt_id, spec, "the run succeeded without it")
    return found


def _of_different_names(wanted: list[Download]) -> list[Download]:
    """Number files of the same name, also for case-insensitive file systems."""
    taken: set[str] = set()
    found: list[Download] = []
    for each in wanted:
        names = (each.name, *(_numbered(each.name, n) for n in range(2, len(wanted) + 2)))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        found.append(attrs.evolve(each, name=name))
    return found


def fetch_all(
    server: ComfyUI,
    downloads: Sequence[Download],
    folder: Path,
    prompt_id: str,
    *,
    scope: CancelScope,
    begin: Callable[[Download], object] = lambda _: None,
) -> dict[str, Path]:
    """Stream results into `folder`, several in parallel, and return their paths by name.

    An optional result that cannot be downloaded is left out. `begin` is called before each one.

    Raises:
        OutputMissing: The server does not have the file, or it is damaged.
        OutputNotWritable: The folder cannot be written.
        TransportError: A download breaks off every time.
    """
    together = CancelScope(parent=scope)

    def fetched(item: Download) -> Path | None:
        try:
            begin(item)
            return fetch(server, item, folder, prompt_id, scope=together)
        except OutputMissing as error:
            if item.spec.required:
                together.cancel(_Abandoned())
                raise
            log.warning("%s", error)
            return None
        except BaseException:
            together.cancel(_Abandoned())
            raise

    paths = map_in_threads(fetched, downloads, AT_ONCE)
    pairs = zip(downloads, paths, strict=True)
    return {item.name: path for item, path in pairs if path is not None}


class _Abandoned(ComfyloomError):
    """Another download of the same run has failed."""


def fetch(
    server: ComfyUI, download: Download, folder: Path, prompt_id: str, *, scope: CancelScope
) -> Path:
    """Stream a result into `folder`, check it, and return its path.

    A broken download is resumed, or restarted if the server cannot resume it or the file has
    changed. Each megabyte of progress resets the backoff.

    Raises:
        OutputMissing: The server does not have the file, or it is damaged.
        OutputNotWritable: The folder cannot be written.
        TransportError: The download breaks off every time.
    """
    part = ResumableDownload(folder / download.name)
    delays, gained = server.backoff.delays(), 0
    while True:
        try:
            scope.checkpoint()
            part.fetch(server, download.file, scope)
            break
        except NotFound:
            raise _missing(prompt_id, download.spec, _GONE, OutputGone) from None
        except (TransportError, ApiError) as error:
            if part.size - gained >= WORTH_BYTES:
                delays, gained = server.backoff.delays(), part.size
            delay = next(delays, None)
            if delay is None or (isinstance(error, ApiError) and error.is_final):
                raise
            log.warning("downloading %s again: %s", download.name, error)
            asked_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
            server.clock.sleep(min(asked_s or delay, scope.checkpoint()))
        except ComfyloomError:  # before OSError: our timeouts are also TimeoutErrors
            raise
        except OSError as error:
            text = f"cannot write {part.path}: {error.strerror or error}"
            raise OutputNotWritable(text, path=str(part.path)) from None
    if (wrong := formats.complaint(part.path)) is not None:
        raise _missing(prompt_id, download.spec, wrong)
    return part.path


def _name(spec: OutputSpec, file: FileReference, number: int) -> str:
    """Return the local name; only the last part of the server's name is used."""
    plain = _UNWANTED.sub("_", file.filename.replace("\\", "/").rpartition("/")[2].lstrip("."))
    if not spec.file:
        return f"{spec.name}_{plain}" if plain else spec.name
    suffix = _SUFFIX.search(plain)
    own = Path(spec.file).suffix
    name = spec.file
    if suffix and not own:
        name = f"{spec.file}{suffix[0].lower()}"
    elif suffix and not _is_same(own, suffix[0]):
        name = f"{spec.file.removesuffix(own)}{suffix[0].lower()}"
        log.warning("result %s is %s, because its node saves that", spec.name, name)
    return _numbered(name, number) if spec.many else name


def _is_same(one: str, other: str) -> bool:
    """Return whether two suffixes name the same format."""
    return _PLAIN.get(one.lower(), one.lower()) == _PLAIN.get(other.lower(), other.lower())


def _numbered(name: str, number: int) -> str:
    path = Path(name)
    return f"{path.stem}_{number}{path.suffix}"


def _missing(
    prompt_id: str, spec: OutputSpec, reason: str, kind: type[OutputMissing] = OutputMissing
) -> OutputMissing:
    return kind(
        f"result {spec.name} (node {spec.node}): {reason}",
        prompt_id=prompt_id,
        field=spec.name,
        node=spec.node,
    )
