"""Input files on a server: each is sent only once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeAlias

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.multipart import UploadCancelled
from comfyloom._comfyui.upload_cache import UploadCache
from comfyloom._core.forks import renew_after_fork
from comfyloom._core.timeouts import DEFAULT_TIMEOUTS
from comfyloom._workflow.files import InputFile
from comfyloom.errors import InputFileError

Send: TypeAlias = Callable[[InputFile, CancelScope], str]

FORM_BYTES: Final = 1000
"""Upper bound of the request without the file."""
WORTH_ASKING: Final = 1 << 20
"""The server's limit is only checked for larger files."""


@attrs.define(eq=False)
class Uploads:
    """Sends what the server does not have yet.

    Args:
        send: Uploads a file and returns its name there.
        limit: Returns the largest request that the server accepts, None if unknown.
        cache: What earlier sessions sent.
        turn_s: As in `Timeouts`.
    """

    _send: Send
    _limit: Callable[[], int | None]
    _cache: UploadCache
    _turn_s: float = DEFAULT_TIMEOUTS.turn_s
    _names: dict[str, str] = attrs.field(factory=dict[str, str], init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _turns: defaultdict[str, threading.Lock] = attrs.field(
        factory=lambda: defaultdict(threading.Lock), init=False
    )

    def __attrs_post_init__(self) -> None:
        renew_after_fork(self.after_fork)

    def after_fork(self) -> None:
        """Replace the locks."""
        self._lock, self._turns = threading.Lock(), defaultdict(threading.Lock)

    def known(self, file: InputFile) -> str | None:
        """Return the server's name for a file that was sent before, None if it was not."""
        with self._lock:
            if file.name not in self._names:
                stored = self._cache.get(file.name)
                if stored is None:
                    return None
                self._names[file.name] = stored
            return self._names[file.name]

    def put(self, file: InputFile, scope: CancelScope) -> str:
        """Return the server's name for a file, sending it if it was not sent before.

        Raises:
            InputFileError: It is larger than the server accepts, or can no longer be read.
            ApiError: The server refuses it.
            TransportError: It cannot be sent.
        """
        with self._turn(file.name, scope):  # two runs with the same picture send it once
            if (stored := self.known(file)) is not None:
                return stored
            self._demand_room(file)
            try:
                stored = self._send(file, scope)
            except UploadCancelled as cancelled:
                raise cancelled.cause from None
            with self._lock:
                self._names[file.name] = stored
            self._cache.put(file.name, stored)
            return stored

    def forget(self, file: InputFile) -> None:
        """Note that the server does not have a file (any more)."""
        with self._lock:
            self._names.pop(file.name, None)
        self._cache.drop(file.name)

    @contextmanager
    def _turn(self, name: str, scope: CancelScope) -> Generator[None]:
        with self._lock:
            turn = self._turns[name]
        while not turn.acquire(timeout=self._turn_s):
            scope.checkpoint()
        try:
            yield
        finally:
            turn.release()
            with self._lock:
                self._turns.pop(name, None)  # waiting threads hold a reference

    def _demand_room(self, file: InputFile) -> None:
        limit = self._limit() if file.size > WORTH_ASKING else None
        if limit is not None and file.size + FORM_BYTES > limit:
            raise InputFileError(
                f"the file is {file.size / 1e6:.1f} MB, but the server accepts at most "
                f"{limit / 1e6:.1f} MB: make it smaller, or start ComfyUI with a larger "
                "--max-upload-size"
            )
