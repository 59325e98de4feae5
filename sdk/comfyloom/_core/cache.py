"""Per-user cache directory; safe to delete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "COMFYLOOM_CACHE_DIR"


def cache_folder(name: str) -> Path:
    """Return a folder, which may not exist, of the user's cache or of `COMFYLOOM_CACHE_DIR`."""
    if given := os.environ.get(VARIABLE):
        return Path(given) / name
    import platformdirs

    return platformdirs.user_cache_path("comfyloom") / name
