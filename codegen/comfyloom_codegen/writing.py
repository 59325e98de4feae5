"""The generated package on disk: compare it, write it atomically, remove files without a source."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from comfyloom._core.atomic_write import replacing
from comfyloom._core.json import is_mapping
from comfyloom._workflow.graph import Graph
from comfyloom.errors import OutputNotWritable
from comfyloom_codegen.printing.generated_module import read_exactly
from comfyloom_codegen.printing.header import is_generated
from comfyloom_codegen.report import Drift

_WRITTEN_LAST: Final = frozenset({"__init__.py"})
_PARTIAL_FILE: Final = re.compile(r"\.(\d+)\.part$")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def graph_text(graph: Graph) -> str:
    """Return a graph as JSON, one node per line: ids, order and values as in its file."""
    # Node by node, because the C encoder of `json` does not indent.
    lines = (f"{_compact(node)}: {_compact(entry)}" for node, entry in graph.items())
    return _encodable("{\n" + ",\n".join(lines) + "\n}\n")


def json_text(value: object, indent: int) -> str:
    """Return a value as JSON that can be encoded in UTF-8."""
    return _encodable(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _encodable(text: str) -> str:
    # A lone surrogate is a legal JSON escape, but UTF-8 cannot encode it.
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def compare(folder: Path, files: Mapping[str, str], kept: Iterable[str]) -> list[Drift]:
    """Return how a folder differs from `files`, including generated files without a source.

    Args:
        folder: The folder of the package.
        files: The expected text by file name.
        kept: The names of files to leave as they are.
    """
    drift: list[Drift] = []
    for name, text in files.items():
        if read_exactly(folder / name) != text:
            drift.append(
                Drift(file=name, kind="differs" if (folder / name).exists() else "missing")
            )
    wanted = {*files, *kept}
    drift += [Drift(file=name, kind="orphaned") for name in _orphans(folder, wanted)]
    return sorted(drift, key=lambda each: each.file)


def _orphans(folder: Path, wanted: set[str]) -> list[str]:
    found: list[str] = []
    for path in folder.glob("*.py"):
        if path.name not in wanted and is_generated(read_exactly(path) or ""):
            graph = path.with_suffix(".json")
            found += [path.name, *([graph.name] if graph.is_file() else [])]
    return found


def apply_changes(folder: Path, files: Mapping[str, str], drift: Iterable[Drift]) -> None:
    """Write the files that differ or are missing, and remove the orphaned ones.

    Raises:
        OutputNotWritable: A file cannot be written, or was not made by this generator.
    """
    remove_stale(folder)
    # Modules first, then __init__.py, which refers to them, then removals: if the disk fills up in
    # between, the package can still be imported.
    for each in sorted(
        drift, key=lambda each: (each.kind == "orphaned", each.file in _WRITTEN_LAST)
    ):
        path = folder / each.file
        try:
            if each.kind == "orphaned":
                path.unlink(missing_ok=True)
            else:
                _refuse_to_overwrite(path)
                folder.mkdir(parents=True, exist_ok=True)
                _write(path, files[each.file])
        except OSError as error:
            reason = f"cannot write {path}: {error.strerror or error}"
            raise OutputNotWritable(reason, path=str(path)) from None


def remove_stale(folder: Path) -> None:
    """Remove the partial files of processes that were killed while writing."""
    for path in folder.glob(".*.part"):
        found = _PARTIAL_FILE.search(path.name)
        if found and not _is_alive(int(found[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # on Windows, signal 0 is CTRL_C_EVENT
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _refuse_to_overwrite(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    may_be_ours = _looks_like_ours if path.suffix == ".json" else is_generated
    if text.strip() and not may_be_ours(text):
        raise OutputNotWritable(
            f"{path} was not made by comfyloom-codegen and is left alone", path=str(path)
        )


def _looks_like_ours(text: str) -> bool:
    """Return whether a JSON file may be a generated one: an object of objects, or damaged."""
    try:
        found = json.loads(text)
    except ValueError:
        return True
    return is_mapping(found) and all(map(is_mapping, found.values()))


def write_text(path: Path, text: str) -> None:
    """Replace the text of a file atomically.

    A symbolic link is followed, and the line endings of an existing file are kept.

    Raises:
        OutputNotWritable: The file cannot be written.
    """
    try:
        real = path.resolve()
        has_crlf = real.is_file() and b"\r\n" in real.read_bytes()
        _write(real, text.replace("\n", "\r\n") if has_crlf else text)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        raise OutputNotWritable(reason, path=str(path)) from None


def _writable_mode(path: Path) -> int:
    if not os.access(path, os.W_OK):  # a rename would succeed anyway
        raise PermissionError(errno.EACCES, "it is read-only")
    return path.stat().st_mode


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        if path.exists():
            Path(file.name).chmod(_writable_mode(path))
        file.write(text.encode())
