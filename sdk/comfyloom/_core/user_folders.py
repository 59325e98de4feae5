"""The user's folders for configuration, state and cache; a user may have none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, TypeAlias

UserFolder: TypeAlias = Literal["config", "state", "cache"]

NOWHERE: Final = Path(os.devnull) / "comfyloom"
"""A folder in which nothing is found and nothing can be written."""


def user_folder(kind: UserFolder) -> Path | None:
    """Return a folder of the user, which may not exist; None for a user without a home.

    A container may run under a user id that has no name, and without `HOME`.
    """
    import platformdirs

    folders = platformdirs.PlatformDirs("comfyloom", appauthor=False)
    try:
        path = Path(getattr(folders, f"user_{kind}_dir"))
    except RuntimeError:  # no home
        return None
    # Older versions of the library leave the tilde of an unknown home.
    return None if path.parts[:1] == ("~",) else path.absolute()
