"""The input files of a run: the forms that a caller may pass, and reading them safely."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs

from comfyloom._core.redact import log
from comfyloom._workflow import formats, signatures
from comfyloom._workflow.pillow_file import file_of_pillow
from comfyloom.errors import InputFileError


class PillowImage(Protocol):
    """The part of a `PIL.Image.Image` that the SDK uses; Pillow is not imported for it."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002
        """Write the image to a file object."""
        ...


class BinaryFile(Protocol):
    """The part of an open file that the SDK uses; it is read from its beginning, if it can seek."""

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes, or all remaining bytes for -1."""
        ...


class PictureArray(Protocol):
    """The part of a numpy array that the SDK uses; numpy is imported when an array is passed."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The layout of its memory."""
        ...


FileSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryFile
"""A file: its path, its bytes, or an open file in binary mode."""
ImageSource: TypeAlias = FileSource | PillowImage | PictureArray
"""An image: an image file, a Pillow image, or a numpy array.

An array has the shape `(height, width)` or `(height, width, channels)` with 1, 3 or 4 channels,
optionally with a first axis of length 1, and contains `uint8`, `bool`, or floats from 0 to 1.
"""

HELD_BYTES: Final = 1 << 24
"""A file up to this size is read at once and may change afterwards; a larger one is streamed."""

FileKind: TypeAlias = Literal["image", "mask", "audio", "video", "file"]
ListKind: TypeAlias = Literal["images", "folder"]
FILE_KINDS: Final[frozenset[str]] = frozenset((*get_args(FileKind), *get_args(ListKind)))

_EXPECTED: Final[dict[FileKind, str]] = {
    "image": "the file is not an image (PNG, JPEG, WebP, AVIF, TIFF or another picture expected)",
    "mask": "the file is not an image (PNG, JPEG, WebP, AVIF, TIFF or another picture expected)",
    "audio": "the file is not an audio file (WAV, FLAC, Ogg, MP3, AAC, M4A or AIFF expected)",
    "video": "the file is not a video (MP4, MOV, WebM, Matroska, AVI, GIF or WebP expected)",
}
# One chunk must be sent within the socket timeout, also over a slow connection.
_CHUNK: Final = 1 << 16
_HEAD: Final = 64
_FLAT, _CHANNELED, _BATCH = 2, 3, 4
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,12}")
# Suffixes of one container format: any of them fits, so that a file keeps its own.
_SAME_CONTAINER: Final = (
    frozenset({".mp4", ".m4v", ".m4a", ".mov"}),
    frozenset({".webm", ".mkv", ".mka"}),
    frozenset({".ogg", ".oga", ".opus", ".ogv"}),
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
    frozenset({".tif", ".tiff"}),
    frozenset({".jp2", ".j2k", ".jpx", ".jpf", ".jpc"}),
)


@attrs.frozen(kw_only=True)
class InputFile:
    """One input file, and the name that it is uploaded under.

    Attributes:
        content: Its content; None for a large file, which is read from `path` when it is sent.
        path: The path of a large file, None for any other.
        size: Its length in bytes.
        digest: The SHA-256 of its content.
        suffix: The suffix of its name.
        own_name: The name that a node shall see, "" for one derived from the content.
        folder: The folder that it is uploaded into, "" for none; it is derived from the content.
    """

    content: bytes | None = attrs.field(repr=False)
    path: Path | None = None
    size: int
    digest: str
    suffix: str
    own_name: str = ""
    folder: str = ""

    @property
    def name(self) -> str:
        """The name, derived from the content: the same content is uploaded only once."""
        return f"{self.folder}/{self.file_name}" if self.folder else self.file_name

    @property
    def file_name(self) -> str:
        """The last part of its name."""
        return self.own_name or self.digest[:32] + self.suffix

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces.

        Raises:
            InputFileError: The file has changed since it was checked, or cannot be read.
        """
        if self.content is not None or self.path is None:
            held = memoryview(self.content or b"")
            yield from (bytes(held[at : at + _CHUNK]) for at in range(0, len(held), _CHUNK))
            return
        import hashlib

        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    yield chunk
        except OSError as error:
            raise InputFileError(f"cannot read {self.path}: {error.strerror or error}") from None
        if digest.hexdigest() != self.digest:
            raise InputFileError(f"{self.path} has changed since the run began")


def is_image_source(value: object) -> bool:
    """Return whether a value has a type that can be an image; nothing is opened."""
    return is_file_source(value) or _is_pillow_image(value) or is_array(value)


def is_file_source(value: object) -> bool:
    """Return whether a value has a type that can be a file; nothing is opened."""
    return isinstance(value, str | os.PathLike | bytes) or callable(getattr(value, "read", None))


def source_key(value: object) -> object:
    """Return the key that two sources are compared by: an array's content, else the value."""
    if is_file_source(value) or _is_pillow_image(value) or not is_array(value):
        return value
    array: Any = value
    return ("array", array.shape, str(array.dtype), array.tobytes())


def _is_pillow_image(value: object) -> bool:
    return callable(getattr(value, "save", None))


def is_array(value: object) -> bool:
    """Return whether a value is an array; test `_is_pillow_image` first.

    A Pillow image is an array too, but reading this attribute would load its pixels.
    """
    return isinstance(getattr(value, "__array_interface__", None), dict)


def source_name(source: ImageSource, fallback: str) -> str:
    """Return the file name of a source in a graph before it is uploaded."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return fallback


def read_input(source: ImageSource, kind: FileKind) -> InputFile:
    """Read and check the file of an input; a large file is checked but not kept in memory.

    Args:
        source: The file or image.
        kind: The kind of input, which determines the formats that are accepted.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The content is not of that kind; the message gives the reason.
    """
    path = _large_path(source)
    if path is not None:
        with path.open("rb") as file:
            return _checked(file, source, kind, None, path)
    content = _read(source)
    return _checked(io.BytesIO(content), source, kind, content, None)


def _checked(
    file: io.BytesIO | io.BufferedReader,
    source: ImageSource,
    kind: FileKind,
    content: bytes | None,
    path: Path | None,
) -> InputFile:
    import hashlib

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not size:
        raise ValueError("the file is empty")
    suffix = _suffix_of(file.read(_HEAD), source, kind)
    file.seek(0)
    if kind != "file" and formats.is_truncated(file, size):
        raise ValueError("the PNG is truncated")
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return InputFile(content=content, path=path, size=size, digest=digest, suffix=suffix)


def _suffix_of(head: bytes, source: ImageSource, kind: FileKind) -> str:
    own = Path(source).suffix.lower() if isinstance(source, str | os.PathLike) else ""
    own = own if _SUFFIX.fullmatch(own) else ""
    if kind == "file":
        return own or ".bin"
    media: signatures.Media = "image" if kind == "mask" else kind
    suffix = signatures.suffix_of(head, media)
    if suffix is None:
        is_known = media == "image" and own in signatures.UNSIGNED
        if signatures.is_something_else(head, media) and not is_known:
            raise ValueError(_EXPECTED[kind])
        if not is_known:
            log.warning("an %s of unknown format is sent as it is (%s)", media, own or "no suffix")
        return own or ".bin"
    is_same = any({own, suffix} <= container for container in _SAME_CONTAINER)
    return own if is_same else suffix


def _large_path(source: ImageSource) -> Path | None:
    """Return the path of a file that is too large to keep in memory, None for other sources.

    Raises:
        ValueError: It is a device or a pipe.
    """
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A pipe can be read only once, and reading it may block forever.
        raise ValueError("it is not a regular file")
    return path if path.is_file() and path.stat().st_size > HELD_BYTES else None


def _read(source: ImageSource) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    given: Any = source
    if callable(getattr(given, "read", None)):
        return _read_open(given)
    if not _is_pillow_image(given):
        return _png_of(given)
    return file_of_pillow(given)


def _read_open(file: Any) -> bytes:
    if callable(getattr(file, "seekable", None)) and file.seekable():
        file.seek(0)  # each run reads the file from its beginning
    content = file.read()
    if not isinstance(content, bytes):
        raise ValueError("the file is open in text mode; open it with mode 'rb'")  # noqa: TRY004
    return content


def _png_of(source: Any) -> bytes:
    """Return an array as a PNG.

    Raises:
        ValueError: Pillow is missing, or the array does not have the layout of an image.
    """
    try:
        import numpy as np
        from PIL import Image
    except ImportError:
        raise ValueError("an array needs Pillow: pip install 'comfyloom[images]'") from None
    array = np.asarray(source)
    pixels = array[0] if array.ndim == _BATCH and len(array) == 1 else array
    if pixels.ndim == _CHANNELED and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    flat, channeled = pixels.ndim == _FLAT, pixels.ndim == _CHANNELED and pixels.shape[2] in (3, 4)
    if not (flat or channeled) or not pixels.size:
        raise ValueError(
            f"an array of shape {array.shape} is not an image: (height, width) or "
            "(height, width, 1, 3 or 4) expected"
        )
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype.kind == "f":
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ValueError("an array of floats must have values from 0 to 1")
        pixels = (pixels * 255.0).round().astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise ValueError(
            f"an array of {pixels.dtype} is not an image: uint8, bool or floats expected"
        )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()
