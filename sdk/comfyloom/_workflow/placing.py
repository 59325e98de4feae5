"""Placing the files of a result at several paths: all of them or none."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from comfyloom.errors import OutputNotWritable


@attrs.define
class _Placement:
    """One file on its way to its path."""

    source: Path
    target: Path
    part: Path = attrs.field(init=False)
    before: Path | None = attrs.field(default=None, init=False)
    is_placed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        stem = f".{self.target.name}.{os.urandom(4).hex()}.{os.getpid()}"
        self.part = self.target.with_name(f"{stem}.part")

    def copy(self) -> None:
        """Copy the file beside its path; the copy is as old as this moment."""
        if self.target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with self.source.open("rb") as reader, self.part.open("xb") as writer:
            shutil.copyfileobj(reader, writer)

    def place(self) -> None:
        """Give the copy its name, and remember what had it."""
        if self.target.exists():
            self.before = self.part.with_suffix(".before")
            try:
                self.before.hardlink_to(self.target)
            except OSError:  # a file system without hard links
                shutil.copy2(self.target, self.before)
        self.part.replace(self.target)
        self.is_placed = True

    def undo(self) -> None:
        """Put back what was there."""
        if self.is_placed and self.before is not None:
            self.before.replace(self.target)
        elif self.is_placed:
            self.target.unlink()

    def clean(self) -> None:
        """Remove what is only needed until all are placed."""
        self.part.unlink(missing_ok=True)
        if self.before is not None:
            self.before.unlink(missing_ok=True)


def place_all(files: Iterable[tuple[Path, Path]]) -> None:
    """Copy files to their paths, all or none; existing files are replaced.

    Each path has its old content or all of the new one at any moment. Folders are created.

    Args:
        files: The file and its path.

    Raises:
        OutputNotWritable: One cannot be written; everything is as it was.
    """
    placements = [_Placement(source, target) for source, target in files]
    made: list[Path] = []
    now = placements[0] if placements else None
    try:
        for now in placements:
            made += _make(now.target.parent)
            now.copy()
        for now in placements:
            now.place()
    except BaseException as error:
        for placement in reversed(placements):
            with contextlib.suppress(OSError):
                placement.undo()
        _clean(placements)
        _remove(made)
        if not isinstance(error, OSError) or now is None:
            raise
        text = f"cannot write {now.target}: {error.strerror or error}"
        raise OutputNotWritable(text, path=str(now.target)) from None
    _clean(placements)


def _clean(placements: Iterable[_Placement]) -> None:
    for placement in placements:
        with contextlib.suppress(OSError):
            placement.clean()


def _make(folder: Path) -> list[Path]:
    """Create a folder and its parents; return what was created, outermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _remove(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
