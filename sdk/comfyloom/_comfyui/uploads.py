"""Input files on a server: each is sent once, whoever needs it and how often."""

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
from comfyloom._workflow.files import InputFile
from comfyloom.errors import InputFileError

Send: TypeAlias = Callable[[InputFile, CancelScope], str]

TURN_S: Final = 0.2
FORM_BYTES: Final = 1000
"""What a request has beside the file, at most."""
WORTH_ASKING: Final = 1 << 20
"""For a smaller file nobody asks how much the server takes."""


@attrs.define(eq=False)
class Uploads:
    """Sends what the server does not have yet.

    Args:
        send: Uploads a file and returns its name there.
        limit: Asks for the largest request that the server takes, None if it does not tell.
        remembered: What earlier sessions sent.
    """

    _send: Send
    _limit: Callable[[], int | None]
    _cache: UploadCache
    _names: dict[str, str] = attrs.field(factory=dict[str, str], init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _turns: defaultdict[str, threading.Lock] = attrs.field(
        factory=lambda: defaultdict(threading.Lock), init=False
    )

    def known(self, file: InputFile) -> str | None:
        """Return what the server calls a file that it was sent before, None if it was not."""
        with self._lock:
            if file.name not in self._names:
                stored = self._cache.get(file.name)
                if stored is None:
                    return None
                self._names[file.name] = stored
            return self._names[file.name]

    def put(self, file: InputFile, scope: CancelScope) -> str:
        """Return what the server calls a file, sending it if it is not known to be there.

        Args:
            file: The file.
            scope: Ends the upload.

        Raises:
            InputFileError: It is larger than the server takes, or cannot be read any more.
            ApiError: The server refuses it.
            TransportError: It cannot be sent.
        """
        with self._turn(file.name, scope):  # two runs with the same picture send it once
            if (stored := self.known(file)) is not None:
                return stored
            self._demand_room(file)
            try:
                stored = self._send(file, scope)
            except UploadCancelled as ended:
                raise ended.cause from None
            with self._lock:
                self._names[file.name] = stored
            self._cache.put(file.name, stored)
            return stored

    def forget(self, file: InputFile) -> None:
        """Take a file for one that the server does not have (any more)."""
        with self._lock:
            self._names.pop(file.name, None)
        self._cache.drop(file.name)

    @contextmanager
    def _turn(self, name: str, scope: CancelScope) -> Generator[None]:
        with self._lock:
            turn = self._turns[name]
        while not turn.acquire(timeout=TURN_S):
            scope.checkpoint()
        try:
            yield
        finally:
            turn.release()
            with self._lock:
                self._turns.pop(name, None)  # whoever waits for it has it in hand

    def _demand_room(self, file: InputFile) -> None:
        limit = self._limit() if file.size > WORTH_ASKING else None
        if limit is not None and file.size + FORM_BYTES > limit:
            megabytes, most = file.size / 1e6, limit / 1e6
            raise InputFileError(
                f"the file has {megabytes:.1f} MB, and the server takes {most:.1f} MB: make it "
                "smaller, or start ComfyUI with a larger --max-upload-size"
            )
