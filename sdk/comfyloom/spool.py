"""The folder that the files of a run lie in."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from comfyloom.errors import OutputNotWritable


class Spool:
    """Collects the files of one run, and hands them over all at once.

    Files are first written into a hidden folder. `publish` puts them under their final names:
    in `out_dir`, replacing what is there, or, without one, in a temporary folder that lives as
    long as anything refers to the spool.

    Args:
        out_dir: Where the files shall be; made if it is not there.

    Raises:
        OutputNotWritable: The folder cannot be made or written.
    """

    def __init__(self, out_dir: str | os.PathLike[str] | None = None) -> None:
        self._out_dir = None if out_dir is None else Path(out_dir)
        try:
            if self._out_dir is not None:
                self._out_dir.mkdir(parents=True, exist_ok=True)
            # On the same file system as the final place, so that a rename is all it takes.
            self.folder = Path(tempfile.mkdtemp(prefix=".comfyloom-", dir=self._out_dir))
        except OSError as error:
            where = self._out_dir or tempfile.gettempdir()
            text = f"cannot write into {where}: {error.strerror or error}"
            raise OutputNotWritable(text, path=str(where)) from None
        self._discard = weakref.finalize(self, shutil.rmtree, str(self.folder), ignore_errors=True)

    def publish(self, paths: list[Path]) -> list[Path]:
        """Give all files their final names and return these.

        Raises:
            OutputNotWritable: A file cannot be put there.
        """
        if self._out_dir is None:
            return paths
        out_dir = self._out_dir.absolute()
        try:
            return [path.replace(out_dir / path.name) for path in paths]
        except OSError as error:
            text = f"cannot write into {out_dir}: {error.strerror or error}"
            raise OutputNotWritable(text, path=str(out_dir)) from None
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the hidden folder and what is left in it."""
        self._discard()


def check_writable(out_dir: str | os.PathLike[str]) -> None:
    """Make sure that files can be written into a folder, before anything is paid for.

    Raises:
        OutputNotWritable: They cannot.
    """
    Spool(out_dir).discard()
