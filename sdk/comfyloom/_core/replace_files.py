"""Replacing several files: all of them, or none."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs


@attrs.define
class Replacement:
    """One file on its way to its path.

    Args:
        part: The new file, on the file system of its path.
        target: Its path.
        before: Where what it replaces is kept until all are in place.
    """

    part: Path
    target: Path
    before: Path
    _is_kept: bool = attrs.field(default=False, init=False)
    _is_placed: bool = attrs.field(default=False, init=False)

    def place(self) -> None:
        """Give the new file its path; anything there is kept, also a link that leads nowhere."""
        if self.target.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{self.target.name} is a folder")
        if self.target.is_symlink():
            self.before.symlink_to(self.target.readlink())
            self._is_kept = True
        elif self.target.exists():
            try:
                self.before.hardlink_to(self.target)
            except OSError:  # a file system without hard links
                shutil.copy2(self.target, self.before)
            self._is_kept = True
        self.part.replace(self.target)
        self._is_placed = True

    def undo(self) -> None:
        """Put back what was there."""
        if self._is_placed and self._is_kept:
            self.before.replace(self.target)
        elif self._is_placed:
            self.target.unlink()

    def clean(self) -> None:
        """Remove what is only needed until all are in place."""
        for path in (self.part, self.before):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def replace_all(replacements: Sequence[Replacement]) -> None:
    """Give all new files their paths, or none.

    Each path has its old content or all of the new one at any moment.

    Raises:
        OSError: One cannot be written, its `filename`; everything is as it was.
    """
    try:
        for each in replacements:
            with naming(each.target):
                each.place()
    except BaseException:
        for each in reversed(replacements):
            with contextlib.suppress(OSError):
                each.undo()
        raise
    finally:
        for each in replacements:
            each.clean()


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Make the system's errors in this block name a path, instead of a hidden one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def make_folders(folder: Path) -> list[Path]:
    """Create a folder and its parents; return what was created, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, innermost first, as far as they are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
