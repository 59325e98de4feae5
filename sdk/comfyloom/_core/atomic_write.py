"""Atomic file writes: a reader sees the old content or all of the new one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE: Final = 0o600
"""Permissions of a file that only this user may read."""


@contextmanager
def replacing(path: Path, *, mode: int = 0o666, durable: bool = False) -> Generator[BinaryIO]:
    """Yield a temporary file that replaces `path` when the block succeeds.

    It lies beside `path`, as a hidden file that ends in `.<pid>.part`.

    Args:
        path: The file to replace or create; its folder must exist.
        mode: Permissions of the file, reduced by the umask.
        durable: Whether it must survive a power failure.

    Raises:
        OSError: It cannot be written; `path` is unchanged.
    """
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.{os.getpid()}.part")
    try:
        with open(part, "xb", opener=partial(os.open, mode=mode)) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o666, durable: bool = False
) -> None:
    """Replace the content of a file; see `replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content)
