"""The folder for the files of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from comfyloom._core.replace_files import Replacement, make_folders, remove_empty, replace_all
from comfyloom.errors import OutputNotWritable

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())


class StagedPath(_Path):
    """A path in a temporary folder, which lives as long as this object."""

    _staging: object = None

    @classmethod
    def of(cls, path: Path, staging: object) -> Path:
        """Return the path, with what it keeps alive."""
        kept = cls(path)
        kept._staging = staging
        return kept

    def __reduce__(self) -> tuple[type[Path], tuple[str]]:
        """Be copied and pickled as a plain path: the folder stays here."""
        return Path, (str(self),)


class StagingDir:
    """Collects the files of one run, and publishes all of them or none.

    Files are first written into a hidden folder. `publish` moves them to their final names in
    `out_dir`, replacing existing files; without it, they stay in a temporary folder that lives as
    long as anything refers to the staging.

    Raises:
        OutputNotWritable: The folder cannot be created or written.
    """

    def __init__(self, out_dir: str | os.PathLike[str] | None = None) -> None:
        self._out_dir = None if out_dir is None else Path(out_dir)
        self._kept = False
        self._made: list[Path] = []
        try:
            if self._out_dir is not None:
                self._made = make_folders(self._out_dir)
            # On the same file system as the target, so that a rename is enough.
            self.folder = Path(tempfile.mkdtemp(prefix=".comfyloom-", dir=self._out_dir))
        except OSError as error:
            where = self._out_dir or tempfile.gettempdir()
            text = f"cannot write into {where}: {error.strerror or error}"
            raise OutputNotWritable(text, path=str(where)) from None
        self._discard = weakref.finalize(self, _remove, str(self.folder), os.getpid())

    def publish(self, paths: list[Path]) -> list[Path]:
        """Move all files to their final names, or none, and return the new paths.

        Raises:
            OutputNotWritable: A file cannot be written; existing files are restored.
        """
        if self._out_dir is None:
            self._kept = True
            return paths
        out_dir = self._out_dir.absolute()
        targets = [out_dir / path.name for path in paths]
        try:
            replace_all(
                [
                    Replacement(path, target, self.folder / f"before-{path.name}")
                    for path, target in zip(paths, targets, strict=True)
                ]
            )
        except OSError as error:
            text = f"cannot write into {out_dir}: {error.strerror or error}"
            raise OutputNotWritable(text, path=str(out_dir)) from None
        return targets

    def close(self) -> None:
        """Remove the hidden folder, unless it has published files, and empty created folders."""
        if not self._kept:
            self._discard()
        remove_empty(self._made)
        self._made = []


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # the results of a parent outlive a forked child
        shutil.rmtree(folder, ignore_errors=True)


def check_writable(out_dir: str | os.PathLike[str], names: Iterable[str] = ()) -> None:
    """Check that files of these names can be written into a folder, before it costs money.

    Raises:
        OutputNotWritable: They cannot.
    """
    staging = StagingDir(out_dir)
    try:
        for target in (Path(out_dir, name) for name in names):
            if target.is_dir():
                raise OutputNotWritable(f"cannot write {target}: it is a folder", path=str(target))
    finally:
        staging.close()
