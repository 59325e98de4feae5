"""Writing the user's own credentials file, as `comfyloom login` does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from comfyloom._core.atomic_write import PRIVATE, write_atomically
from comfyloom._core.user_folders import user_folder
from comfyloom.errors import OutputNotWritable
from comfyloom.settings.declaration import setting_metas
from comfyloom.settings.model import Settings


def user_credentials() -> Path:
    """Return the credentials file in the user's configuration folder; it may not exist.

    Raises:
        OutputNotWritable: The user has no home folder.
    """
    if (folder := user_folder("config")) is None:
        raise OutputNotWritable("there is no home folder: name a file with --credentials")
    return folder / "credentials.txt"


def write_credentials(path: Path, values: Mapping[str, str]) -> Path | None:
    """Write settings into a credentials file, readable by its user alone; other lines stay.

    Args:
        path: The file; it is replaced at once, or not at all.
        values: The new values by the name of the setting.

    Returns:
        A copy of the file as it was, beside it, if it had other values of these settings.

    Raises:
        OutputNotWritable: It cannot be read or written.
    """
    metas = setting_metas(Settings)
    names = {name: (*metas[name].variables, *metas[name].file_names) for name in values}
    spellings = "|".join(re.escape(each) for group in names.values() for each in group)
    replaced = re.compile(rf"\s*(?:{spellings})\s*[:=]", re.IGNORECASE)
    try:
        before = path.read_text("utf-8-sig") if path.exists() else ""
        lines = before.splitlines()
        kept = [line for line in lines if not replaced.match(line)]
        new = [f"{names[name][0]}: {value}" for name, value in values.items()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy = path.with_name(f"{path.name}.old") if {*lines} - {*kept, *new} else None
        if copy is not None:
            write_atomically(copy, before.encode(), mode=PRIVATE, durable=True)
        text = "\n".join([*kept, *new]) + "\n"
        write_atomically(path, text.encode(), mode=PRIVATE, durable=True)
    except UnicodeDecodeError:
        raise OutputNotWritable(f"{path} is not UTF-8 text", path=str(path)) from None
    except OSError as error:
        text = f"cannot write {path}: {error.strerror or error}"
        raise OutputNotWritable(text, path=str(path)) from None
    else:
        return copy
