"""What servers have of our files, kept across processes.

One small file for each upload: processes that add and remove them at the same time do each other no
harm, and whatever is wrong with one costs no more than an upload.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from pathlib import Path
from typing import Final

import attrs

from comfyloom._core.cache import cache_folder
from comfyloom._core.redact import log

KEPT_S: Final = 7 * 86400.0
"""A server that was sent nothing new for so long is forgotten when another one is met."""
_PLAIN: Final = re.compile(r"[\w .()/-]{1,300}", re.ASCII)


@attrs.frozen
class UploadCache:
    """The uploads of one server.

    Attributes:
        folder: Where they are kept.
    """

    folder: Path

    @classmethod
    def of(cls, url: str) -> UploadCache:
        """Return those of the server at a URL, which is not told by the folder's name."""
        import hashlib

        key = hashlib.sha256(url.encode()).hexdigest()[:24]
        return cls(cache_folder("uploads") / key)

    def get(self, name: str) -> str | None:
        """Return what the server calls a file of this name, None if it is not known to have it."""
        try:
            stored = (self.folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return stored if _PLAIN.fullmatch(stored) else None

    def put(self, name: str, stored: str) -> None:
        """Note that the server has a file, and what it calls it."""
        if not _PLAIN.fullmatch(stored):  # it would not be known from a file that is damaged
            return
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._prune()
            (self.folder / name).write_text(stored, encoding="utf-8")
        except OSError as error:
            log.debug("an upload is not remembered: %s", error.strerror)

    def drop(self, name: str) -> None:
        """Forget a file."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            log.debug("an upload is not forgotten: %s", error.strerror)

    def _prune(self) -> None:
        for folder in self.folder.parent.iterdir():
            with contextlib.suppress(OSError):  # another process may remove it as well
                if time.time() - folder.stat().st_mtime > KEPT_S:
                    shutil.rmtree(folder, ignore_errors=True)
