"""Which machines were launched from this computer: a small file for each.

The platform keeps no label of ours, and an account may have machines of other people.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import attrs

from comfyloom._redact import log
from comfyloom.errors import LedgerError

FOLDER: Final = "machines"


@attrs.frozen
class Register:
    """The machines of one account that were launched from here.

    It never stands in the way of a machine: a folder that cannot be written is told and passed
    over. One file a machine needs no lock.

    Args:
        folder: Where the files are.
    """

    folder: Path

    @classmethod
    def of(cls, base_url: str, user_id: str) -> Register:
        """Return the register of an account, in the user's state folder."""
        # Imported when first used: building workflows needs no folders.
        from platformdirs import user_state_path

        account = hashlib.sha256(f"{base_url.rstrip('/')} {user_id}".encode()).hexdigest()[:16]
        return cls(user_state_path("comfyloom", appauthor=False) / FOLDER / account)

    def add(self, server_id: str) -> None:
        """Write down that a machine is ours."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file(server_id).touch()
        except OSError as error:
            log.warning("machine %s is not written down: %s", server_id, error.strerror or error)

    def discard(self, server_id: str) -> None:
        """Forget a machine that has ended."""
        with contextlib.suppress(OSError):
            self._file(server_id).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep all others of this computer from launching on the account while the block lasts.

        Raises:
            LedgerError: The folder cannot be written.
        """
        from filelock import FileLock

        path = self.folder.with_name(f"{self.folder.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(path), thread_local=False)
            lock.acquire()
        except OSError as error:
            text = f"cannot write {path.parent}: {error.strerror or error}"
            raise LedgerError(text, path=str(path.parent)) from None
        try:
            yield
        finally:
            lock.release()

    def since(self, server_id: str) -> float | None:
        """Return when a machine was written down, seconds since the epoch; None if it was not."""
        with contextlib.suppress(OSError):
            return self._file(server_id).stat().st_mtime
        return None

    def ids(self) -> frozenset[str]:
        """Return the machines that are written down."""
        with contextlib.suppress(OSError):
            return frozenset(unquote(path.name) for path in self.folder.iterdir())
        return frozenset()

    def _file(self, server_id: str) -> Path:
        # An id comes from the network: it must not leave the folder.
        return self.folder / quote(server_id, safe="").replace(".", "%2E")
