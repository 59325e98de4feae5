"""The generated package on disk: compared, written atomically, rid of what has no source."""

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
from comfyloom_codegen.printing.header import is_ours
from comfyloom_codegen.report import Drift

_NAMING: Final = frozenset({"__init__.py"})
_PART: Final = re.compile(r"\.(\d+)\.part$")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def graph_text(graph: Graph) -> str:
    """Return a graph as JSON, a line for each node: same ids, order and values as in its file."""
    # Line by line it is made by the encoder in C, which knows no indentation.
    lines = (f"{_compact(node)}: {_compact(entry)}" for node, entry in graph.items())
    return _holdable("{\n" + ",\n".join(lines) + "\n}\n")


def json_text(value: object, indent: int) -> str:
    """Return a value as JSON that a file can hold."""
    return _holdable(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _holdable(text: str) -> str:
    # Half of a pair of code units is a legal JSON escape, but no character that a file can hold.
    return _LONE_SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def compare(folder: Path, files: Mapping[str, str], kept: Iterable[str]) -> list[Drift]:
    """Return what in a folder differs from `files`, with generated files that nothing asks for.

    Args:
        folder: The folder of the package.
        files: Text by file name.
        kept: Names of files that are left as they are.
    """
    drift: list[Drift] = []
    for name, text in files.items():
        there = read_exactly(folder / name)
        if there != text:
            drift.append(
                Drift(file=name, kind="differs" if (folder / name).exists() else "missing")
            )
    wanted = {*files, *kept}
    drift += [Drift(file=name, kind="orphaned") for name in _orphans(folder, wanted)]
    return sorted(drift, key=lambda each: each.file)


def _orphans(folder: Path, wanted: set[str]) -> list[str]:
    found: list[str] = []
    for path in folder.glob("*.py"):
        if path.name not in wanted and is_ours(read_exactly(path) or ""):
            graph = path.with_suffix(".json")
            found += [path.name, *([graph.name] if graph.is_file() else [])]
    return found


def mend(folder: Path, files: Mapping[str, str], drift: Iterable[Drift]) -> None:
    """Write what differs or is missing, and remove what is orphaned.

    Raises:
        OutputNotWritable: A file cannot be written, or is somebody's own.
    """
    sweep(folder)
    # What names the others comes after them, and what goes, last: a disk that is full in between
    # leaves a package that can be imported.
    for each in sorted(drift, key=lambda each: (each.kind == "orphaned", each.file in _NAMING)):
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


def sweep(folder: Path) -> None:
    """Remove the parts of files that processes have left which were killed while they wrote."""
    for path in folder.glob(".*.part"):
        found = _PART.search(path.name)
        if found and not _is_alive(int(found[1])):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where that signal would reach it
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
    may_be_ours = _looks_like_ours if path.suffix == ".json" else is_ours
    if text.strip() and not may_be_ours(text):
        raise OutputNotWritable(
            f"{path} was not made by comfyloom-codegen and is left alone", path=str(path)
        )


def _looks_like_ours(text: str) -> bool:
    """Return whether a JSON file may be a graph or schemas: an object of objects, or broken."""
    try:
        found = json.loads(text)
    except ValueError:
        return True
    return is_mapping(found) and all(map(is_mapping, found.values()))


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is at every moment what it was, or all of the text.

    Where it is a link, what it leads to is written; ends of line stay those that it has.

    Raises:
        OutputNotWritable: It cannot be written.
    """
    try:
        there = path.resolve()
        has_returns = there.is_file() and b"\r\n" in there.read_bytes()
        _write(there, text.replace("\n", "\r\n") if has_returns else text)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        raise OutputNotWritable(reason, path=str(path)) from None


def _mode_of(path: Path) -> int:
    if not os.access(path, os.W_OK):  # a rename would not ask
        raise PermissionError(errno.EACCES, "it is read-only")
    return path.stat().st_mode


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        if path.exists():
            Path(file.name).chmod(_mode_of(path))
        file.write(text.encode())
