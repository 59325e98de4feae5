"""Finding guard processes, and waiting for what they do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from comfyloom._guard.guard import _CHILD

SOON_S = 10.0


def guards_of(owner: int) -> list[int]:
    """Return the pids of the guard processes of an owner."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(_CHILD).encode() in words and str(owner).encode() in words:
                found.append(int(folder.name))
    return found


def soon(holds: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true within ten seconds."""
    end = time.monotonic() + SOON_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
