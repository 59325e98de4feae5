"""Placing the files of a result at several paths: all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from comfyloom._core.replace_files import (
    Replacement,
    make_folders,
    naming,
    remove_empty,
    replace_all,
)
from comfyloom.errors import OutputNotWritable


def place_all(files: Iterable[tuple[Path, Path]]) -> None:
    """Copy files to their paths, all or none; existing files are replaced.

    Folders are created. A copy is as old as this moment.

    Args:
        files: The file and its path.

    Raises:
        OutputNotWritable: One cannot be written; everything is as it was.
    """
    replacements: list[Replacement] = []
    made: list[Path] = []
    try:
        for source, target in files:
            hidden = target.with_name(f".{target.name}.{os.urandom(4).hex()}.{os.getpid()}.part")
            replacements.append(Replacement(hidden, target, hidden.with_suffix(".before")))
            with naming(target):
                made = [*make_folders(target.parent), *made]
                with source.open("rb") as reader, hidden.open("xb") as writer:
                    shutil.copyfileobj(reader, writer)
        replace_all(replacements)
    except BaseException as error:
        for each in replacements:
            each.clean()
        remove_empty(made)
        if not isinstance(error, OSError):
            raise
        text = f"cannot write {error.filename}: {error.strerror or error}"
        raise OutputNotWritable(text, path=str(error.filename)) from None
