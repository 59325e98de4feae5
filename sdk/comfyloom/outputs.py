"""What a run gives: files on this computer, typed by what they hold, and texts.

Each function describes one public field of a result: the node it comes from, the key that the
node reports it under (`ui` data), and what the file is called here. With `many=True` the field
holds all that the node reports there, as a tuple; without, the first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs

from comfyloom.errors import OutputNotWritable

OutputKind: TypeAlias = Literal[
    "image", "animation", "video", "audio", "mesh", "file", "text", "json"
]

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


class AnimationOutput(Output):
    """An animated picture: WebP, PNG or GIF."""

    __slots__ = ()


class VideoOutput(Output):
    """A video."""

    __slots__ = ()


class AudioOutput(Output):
    """A sound."""

    __slots__ = ()


class MeshOutput(Output):
    """A mesh, as binary glTF where nothing else is said."""

    __slots__ = ()


class FileOutput(Output):
    """A file of any kind."""

    __slots__ = ()


@attrs.frozen(kw_only=True)
class OutputSpec:
    """Where a result comes from, and what its file is called.

    Attributes:
        kind: What it is.
        node: The id of the node that reports it.
        key: Where in the node's `ui` data; "" for whichever key holds files, or for all of it.
        file: The name of the file here; without a suffix it gets that of the server's file, and
            "" stands for the server's name behind the name of the field.
        many: Whether it is all that the node reports there, as a tuple.
        required: Whether a run that ends without it has failed.
        name: The name of the field.
    """

    kind: OutputKind
    node: str
    key: str = ""
    file: str = ""
    many: bool = False
    required: bool = True
    name: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it has to be downloaded."""
        return self.kind in OUTPUT_TYPES


OUTPUT_TYPES: Final[dict[OutputKind, type[Output]]] = {
    "image": ImageOutput,
    "animation": AnimationOutput,
    "video": VideoOutput,
    "audio": AudioOutput,
    "mesh": MeshOutput,
    "file": FileOutput,
}


# --- the functions that generated classes call ---------------------------------------------------
# The annotation of the field tells its type.


def image(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A picture that a node saves."""
    return _field("image", node, key, file, **options)


def animation(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """An animated picture that a node saves."""
    return _field("animation", node, key, file, **options)


def video(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A video that a node saves."""
    return _field("video", node, key, file, **options)


def audio(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A sound that a node saves."""
    return _field("audio", node, key, file, **options)


def mesh(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """A mesh that a node saves."""
    return _field("mesh", node, key, file, **options)


def file(node: str, key: str = "", *, file: str = "", **options: Any) -> Any:
    """Whatever file a node saves."""
    return _field("file", node, key, file, **options)


def text(node: str, key: str = "text", **options: Any) -> Any:
    """A text that a node shows."""
    return _field("text", node, key, "", **options)


def json(node: str, key: str = "", *, default: Any = None) -> Any:
    """What a node reports, as it came: under one key, or, without a key, all of it."""
    return _field("json", node, key, "", default=default)


def _field(
    kind: OutputKind,
    node: str,
    key: str,
    file: str,
    *,
    many: bool = False,
    default: object = attrs.NOTHING,
) -> Any:
    required = default is attrs.NOTHING
    spec = OutputSpec(kind=kind, node=node, key=key, file=file, many=many, required=required)
    return attrs.field(default=default, metadata={METADATA: spec})


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that `target` is at every moment what it was, or the whole copy.

    Raises:
        OutputNotWritable: The copy cannot be written; nothing is left of it.
    """
    import shutil

    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
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
