"""The input, output and temp folders of a ComfyUI server."""

import re
import time
from pathlib import Path

import attrs

_SUFFIX = re.compile(r"(.*) \[(input|output|temp)\]")


@attrs.frozen
class SaveTarget:
    """Where a node saves its files: `{stem}_{counter:05}_.ext` in a directory."""

    directory: Path
    subfolder: str
    stem: str
    counter: int

    def name(self, extension: str, offset: int = 0) -> str:
        """Return the file name of result number `offset`."""
        stem = self.stem.replace("%batch_num%", str(offset))
        return f"{stem}_{self.counter + offset:05}_.{extension}"


@attrs.frozen
class Folders:
    """The files of one server, below one directory."""

    root: Path

    def create(self) -> None:
        """Create the folders."""
        for kind in ("input", "output", "temp"):
            (self.root / kind).mkdir(parents=True, exist_ok=True)

    def empty(self, kind: str) -> None:
        """Delete all files in a folder."""
        for path in (self.root / kind).rglob("*"):
            if path.is_file():
                path.unlink()

    def folder(self, kind: str) -> Path | None:
        """Return the folder of a type; None if the type is unknown."""
        return self.root / kind if kind in {"input", "output", "temp"} else None

    def names(self, kind: str = "input") -> list[str]:
        """Return the names of the files directly in a folder, sorted."""
        return sorted(path.name for path in (self.root / kind).iterdir() if path.is_file())

    def annotated_path(self, name: str, default: str = "input") -> Path:
        """Return the path of a file that a graph names `name`, `sub/name` or `name [output]`.

        Raises:
            ValueError: The path is outside of the folder.
        """
        plain, kind = split_annotation(name)
        folder = self.root / (kind or default)
        path = folder / plain
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name} is outside of the {kind or default} folder")
        return path

    def save_target(self, prefix: str, kind: str, width: int = 0, height: int = 0) -> SaveTarget:
        """Return where to save files with this prefix, and create its directory.

        Raises:
            ValueError: The prefix leads out of the folder.
        """
        path = Path(_expand(prefix, width, height))
        base = self.root / kind
        directory = (base / path.parent).resolve()
        if not directory.is_relative_to(base.resolve()):
            raise ValueError("Saving image outside the output folder is not allowed.")
        directory.mkdir(parents=True, exist_ok=True)
        subfolder = "" if str(path.parent) == "." else str(path.parent)
        return SaveTarget(directory, subfolder, path.name, _next_counter(directory, path.name))


def split_annotation(name: str) -> tuple[str, str | None]:
    """Split a trailing ` [input]`, ` [output]` or ` [temp]` off a file name."""
    match = _SUFFIX.fullmatch(name)
    return (match[1], match[2]) if match else (name, None)


def _expand(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {
        "width": width,
        "height": height,
        "year": now.tm_year,
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for key, value in values.items():
        prefix = prefix.replace(f"%{key}%", str(value))
    return prefix


def _next_counter(directory: Path, stem: str) -> int:
    stem_pattern = re.escape(stem).replace(re.escape("%batch_num%"), r"\d+")
    pattern = re.compile(rf"{stem_pattern}_(\d+)_?\..*")
    counters = [int(m[1]) for path in directory.iterdir() if (m := pattern.fullmatch(path.name))]
    return max(counters, default=0) + 1
