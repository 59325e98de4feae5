"""The generated package on disk: compared, written atomically, rid of what has no source."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from comfyloom.errors import OutputNotWritable
from comfyloom.graph import Graph
from comfyloom_codegen.printing.header import is_ours
from comfyloom_codegen.printing.printed import read_exactly
from comfyloom_codegen.report import Drift

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def graph_text(graph: Graph) -> str:
    """Return a graph as JSON: same ids, order and values, whatever its file looked like."""
    text = json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
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
    for each in drift:
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


def _refuse_to_overwrite(path: Path) -> None:
    text = path.read_bytes() if path.suffix == ".py" and path.exists() else b""
    if text.strip() and not is_ours(text.decode("utf-8", "replace")):
        raise OutputNotWritable(
            f"{path} was not made by comfyloom-codegen and is left alone", path=str(path)
        )


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is at every moment what it was, or all of the text.

    Raises:
        OutputNotWritable: It cannot be written.
    """
    try:
        _write(path, text)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        raise OutputNotWritable(reason, path=str(path)) from None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
