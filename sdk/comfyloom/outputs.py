"""What a run gives: files on this computer, typed by what they hold."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from comfyloom.errors import OutputNotWritable

OutputKind: TypeAlias = Literal["image", "mesh", "file"]

METADATA: Final = "comfyloom.output"


@attrs.frozen
class Output:
    """One file that a run gave, whole and checked, on this computer.

    Attributes:
        path: Where it lies. A run without an output folder of its own keeps its files in a
            temporary folder, which goes when nothing refers to its outputs any more.
    """

    path: Path
    _keeper: object = attrs.field(default=None, repr=False, eq=False)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size

    def bytes(self) -> bytes:
        """Return the content."""
        return self.path.read_bytes()

    def save(self, target: str | os.PathLike[str]) -> Path:
        """Copy the file to `target`, a file name or an existing folder, and return its path.

        The copy appears under its name only when it is whole.

        Raises:
            OutputNotWritable: The copy cannot be written.
        """
        path = Path(target)
        if path.is_dir():
            path = path / self.path.name
        copy_atomically(self.path, path)
        return path


class ImageOutput(Output):
    """A picture."""

    __slots__ = ()


class MeshOutput(Output):
    """A mesh, as binary glTF."""

    __slots__ = ()


class FileOutput(Output):
    """A file of any kind."""

    __slots__ = ()


@attrs.frozen(kw_only=True)
class OutputSpec:
    """Where a result comes from: a node, the key in its `ui` data, a file name for it."""

    kind: OutputKind
    node: str
    key: str
    file: str
    required: bool = True
    name: str = ""


OUTPUT_TYPES: Final[dict[OutputKind, type[Output]]] = {
    "image": ImageOutput,
    "mesh": MeshOutput,
    "file": FileOutput,
}


# --- the functions that generated classes call ---------------------------------------------------


def image(node: str, key: str, *, file: str) -> ImageOutput:
    """A picture that a node saves."""
    return cast("ImageOutput", _field("image", node, key, file))


def mesh(node: str, key: str, *, file: str) -> MeshOutput:
    """A mesh that a node saves."""
    return cast("MeshOutput", _field("mesh", node, key, file))


def file(node: str, *, default: None = None) -> FileOutput | None:
    """Whatever file a node saves, None if it saves none; its name is the server's."""
    return cast("FileOutput | None", _field("file", node, "", "", required=False, default=default))


def _field(
    kind: OutputKind,
    node: str,
    key: str,
    file: str,
    *,
    required: bool = True,
    default: object = attrs.NOTHING,
) -> Any:
    spec = OutputSpec(kind=kind, node=node, key=key, file=file, required=required)
    return attrs.field(default=default, metadata={METADATA: spec})


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that `target` is at every moment what it was, or the whole copy.

    Raises:
        OutputNotWritable: The copy cannot be written; nothing is left of it.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with source.open("rb") as reading, part.open("xb") as writing:
                shutil.copyfileobj(reading, writing)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputNotWritable(
            f"cannot write {target}: {error.strerror or error}", path=str(target)
        ) from None
