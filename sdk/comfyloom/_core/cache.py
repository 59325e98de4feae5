"""Where things are kept that may be lost: they only save time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "COMFYLOOM_CACHE_DIR"


def cache_folder(name: str) -> Path:
    """Return the folder for one kind of thing; it is not made.

    It is below the user's cache folder, or below the one that `COMFYLOOM_CACHE_DIR` names.
    """
    if given := os.environ.get(VARIABLE):
        return Path(given) / name
    import platformdirs

    return platformdirs.user_cache_path("comfyloom") / name
