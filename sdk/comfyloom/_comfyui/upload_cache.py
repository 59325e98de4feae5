"""On-disk cache of the files each server already has.

One small file per upload, so processes do not conflict; a damaged one only costs another upload.
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
"""Age after which the uploads of a server are dropped, when another one is added."""
_PLAIN: Final = re.compile(r"[\w .()/-]{1,300}")


@attrs.frozen
class UploadCache:
    """The uploads of one server, in a folder."""

    folder: Path

    @classmethod
    def of(cls, url: str) -> UploadCache:
        """Return the cache of the server at a URL, which the folder's name does not reveal."""
        import hashlib

        key = hashlib.sha256(url.encode()).hexdigest()[:24]
        return cls(cache_folder("uploads") / key)

    def get(self, name: str) -> str | None:
        """Return the server's name for a file, None if the server may not have it."""
        try:
            stored = self._entry(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return stored if _PLAIN.fullmatch(stored) else None

    def put(self, name: str, stored: str) -> None:
        """Note that the server has a file, and its name there."""
        if not _PLAIN.fullmatch(stored):  # `get` would take it for a damaged entry
            return
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._prune()
            self._entry(name).write_text(stored, encoding="utf-8")
        except OSError as error:
            log.debug("an upload is not cached: %s", error.strerror)

    def drop(self, name: str) -> None:
        """Forget a file."""
        try:
            self._entry(name).unlink(missing_ok=True)
        except OSError as error:
            log.debug("an upload is not removed from the cache: %s", error.strerror)

    def _entry(self, name: str) -> Path:
        return self.folder / name.replace("/", "_")

    def _prune(self) -> None:
        for folder in self.folder.parent.iterdir():
            with contextlib.suppress(OSError):  # another process may remove it as well
                if time.time() - folder.stat().st_mtime > KEPT_S:
                    shutil.rmtree(folder, ignore_errors=True)
