"""Per-user cache directory; safe to delete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from comfyloom._core.user_folders import NOWHERE, user_folder

VARIABLE: Final = "COMFYLOOM_CACHE_DIR"


def cache_folder(name: str) -> Path:
    """Return a folder, which may not exist, of the user's cache or of `COMFYLOOM_CACHE_DIR`."""
    if given := os.environ.get(VARIABLE):
        return Path(given) / name
    return (user_folder("cache") or NOWHERE) / name
