"""Files that go into a run: what a caller may give, and reading it safely."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs

from comfyloom._workflow import formats
from comfyloom.errors import InputFileError


class PillowImage(Protocol):
    """What the SDK needs of a `PIL.Image.Image`; Pillow itself is never imported."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002
        """Write the picture to a file object."""
        ...


class BinaryFile(Protocol):
    """What the SDK needs of an open file; it is read from its beginning, where it can seek."""

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes, all that is left for -1."""
        ...


class PictureArray(Protocol):
    """What the SDK needs of a numpy array; numpy itself is imported when one is given."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """How its memory is to be read."""
        ...


FileSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryFile
"""A file: its path, its bytes, or an open file in binary mode."""
ImageSource: TypeAlias = FileSource | PillowImage | PictureArray
"""A picture: a file of one, a Pillow image, or a numpy array.

An array has the shape `(height, width)` or `(height, width, channels)` with 1, 3 or 4 channels,
also behind a first axis of length 1, and holds `uint8`, `bool`, or floats from 0 to 1.
"""

HELD_BYTES: Final = 1 << 24
"""A file up to this size is read at once and may change afterwards; a larger one is streamed."""

FileKind: TypeAlias = Literal["image", "mask", "audio", "video", "file"]
FILE_KINDS: Final[frozenset[str]] = frozenset(get_args(FileKind))

Signatures: TypeAlias = tuple[tuple[bytes, int, str], ...]
"""What files of a kind begin with: bytes, where they stand, and the suffix of such a file."""

_PICTURES: Final[Signatures] = (
    (b"\x89PNG\r\n\x1a\n", 0, ".png"),
    (b"\xff\xd8\xff", 0, ".jpg"),
    (b"GIF87a", 0, ".gif"),
    (b"GIF89a", 0, ".gif"),
    (b"WEBP", 8, ".webp"),
    (b"BM", 0, ".bmp"),
    (b"II*\x00", 0, ".tif"),
    (b"MM\x00*", 0, ".tif"),
)
_SOUNDS: Final[Signatures] = (
    (b"WAVE", 8, ".wav"),
    (b"fLaC", 0, ".flac"),
    (b"OggS", 0, ".ogg"),
    (b"ID3", 0, ".mp3"),
    (b"\xff\xfb", 0, ".mp3"),
    (b"\xff\xfa", 0, ".mp3"),
    (b"\xff\xf3", 0, ".mp3"),
    (b"\xff\xf2", 0, ".mp3"),
    (b"\xff\xf1", 0, ".aac"),
    (b"\xff\xf9", 0, ".aac"),
    (b"ftyp", 4, ".m4a"),
    (b"AIFF", 8, ".aiff"),
    (b"AIFC", 8, ".aifc"),
    (b"\x1aE\xdf\xa3", 0, ".webm"),
)
_FILMS: Final[Signatures] = (
    (b"ftypqt", 4, ".mov"),
    (b"ftyp", 4, ".mp4"),
    (b"\x1aE\xdf\xa3", 0, ".webm"),
    (b"AVI ", 8, ".avi"),
    (b"OggS", 0, ".ogv"),
    (b"FLV", 0, ".flv"),
    (b"\x00\x00\x01\xba", 0, ".mpg"),
    (b"0&\xb2u", 0, ".wmv"),
    (b"GIF8", 0, ".gif"),
    (b"WEBP", 8, ".webp"),
)
PICTURE_FORMATS: Final = "PNG, JPEG, WebP, GIF, BMP or TIFF"
_EXPECTED: Final[dict[str, tuple[Signatures, str]]] = {
    "image": (_PICTURES, f"the file is no picture ({PICTURE_FORMATS} expected)"),
    "mask": (_PICTURES, f"the file is no picture ({PICTURE_FORMATS} expected)"),
    "audio": (_SOUNDS, "the file is no audio (WAV, FLAC, Ogg, MP3, AAC, M4A or AIFF expected)"),
    "video": (_FILMS, "the file is no video (MP4, MOV, WebM, Matroska, AVI, GIF or WebP expected)"),
}
# A whole piece has to leave within the silence that is allowed: slow lines take small ones.
_CHUNK: Final = 1 << 16
_HEAD: Final = 64
_FLAT, _CHANNELED, _BATCH = 2, 3, 4
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,12}")
# A container serves several suffixes: the one that a file already has is right then.
_OF_ONE_CONTAINER: Final = (
    frozenset({".mp4", ".m4v", ".m4a", ".mov"}),
    frozenset({".webm", ".mkv", ".mka"}),
    frozenset({".ogg", ".oga", ".opus", ".ogv"}),
)


@attrs.frozen(kw_only=True)
class InputFile:
    """One input file, and the name it is uploaded under.

    Attributes:
        content: All of it; None for a large one, which is read from `path` when it is sent.
        path: Where it lies.
        size: Its length in bytes.
        digest: The SHA-256 of its content.
        suffix: That of its name.
    """

    content: bytes | None = attrs.field(repr=False)
    path: Path | None = None
    size: int
    digest: str
    suffix: str

    @property
    def name(self) -> str:
        """A name that tells the content: the same picture is uploaded once, under one name."""
        return self.digest[:32] + self.suffix

    def chunks(self) -> Iterator[bytes]:
        """Yield the content.

        Raises:
            InputFileError: The file has changed since it was looked at, or cannot be read.
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
            raise InputFileError(f"{self.path} has changed since the run was begun")


def is_image_source(value: object) -> bool:
    """Return whether a value is of a kind that can be a picture; nothing is opened."""
    # Pillow's images are arrays as well, but to ask one for that would read it.
    return is_file_source(value) or callable(getattr(value, "save", None)) or _is_array(value)


def is_file_source(value: object) -> bool:
    """Return whether a value is of a kind that can be a file; nothing is opened."""
    return isinstance(value, str | os.PathLike | bytes) or callable(getattr(value, "read", None))


def source_key(value: object) -> object:
    """Return what two sources are compared by: arrays by their content, all else as it is."""
    if is_file_source(value) or callable(getattr(value, "save", None)) or not _is_array(value):
        return value
    array: Any = value
    return ("array", array.shape, str(array.dtype), array.tobytes())


def _is_array(value: object) -> bool:
    return isinstance(getattr(value, "__array_interface__", None), dict)


def source_name(source: ImageSource, fallback: str) -> str:
    """Return the file name that stands for a source before it is uploaded."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return fallback


def read_input(source: ImageSource, kind: FileKind) -> InputFile:
    """Read the file of an input; one that is too large to be held is looked through.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The content is none of that kind, with the reason.
    """
    path = _large(source)
    if path is not None:
        with path.open("rb") as file:
            return _looked_at(file, source, kind, None, path)
    content = _read(source)
    return _looked_at(io.BytesIO(content), source, kind, content, None)


def _looked_at(
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
    if kind != "file" and formats.is_cut_off(file, size):
        raise ValueError("the PNG is cut off")
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return InputFile(content=content, path=path, size=size, digest=digest, suffix=suffix)


def _suffix_of(head: bytes, source: ImageSource, kind: FileKind) -> str:
    own = Path(source).suffix.lower() if isinstance(source, str | os.PathLike) else ""
    if kind == "file":
        return own if _SUFFIX.fullmatch(own) else ".bin"
    signatures, complaint = _EXPECTED[kind]
    suffix = _suffix(head, signatures)
    if suffix is None:
        raise ValueError(complaint)
    is_same = any({own, suffix} <= container for container in _OF_ONE_CONTAINER)
    return own if is_same else suffix


def _suffix(content: bytes, signatures: Signatures) -> str | None:
    """Return the suffix that the first bytes of a file ask for, None if none of these fits."""
    for magic, offset, suffix in signatures:
        if content[offset : offset + len(magic)] == magic:
            return suffix
    return None


def _large(source: ImageSource) -> Path | None:
    """Return the path of a file that is too large to be held, None for any other source."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):
        # It could be read only once, and might block for ever.
        raise ValueError("it is no regular file")
    return path if path.is_file() and path.stat().st_size > HELD_BYTES else None


def _read(source: ImageSource) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    given: Any = source
    if callable(getattr(given, "read", None)):
        return _read_open(given)
    if not callable(getattr(given, "save", None)):  # a Pillow image is an array as well
        return _png_of(given)
    buffer = io.BytesIO()
    try:
        given.save(buffer, format="PNG")
    except OSError as error:  # a mode that PNG does not have, such as CMYK
        raise ValueError(f"the image cannot be written as PNG: {error}") from None
    return buffer.getvalue()


def _read_open(file: Any) -> bytes:
    if callable(getattr(file, "seekable", None)) and file.seekable():
        file.seek(0)  # a second run reads it again
    content = file.read()
    if not isinstance(content, bytes):
        raise ValueError("the file is open in text mode; open it with mode 'rb'")  # noqa: TRY004
    return content


def _png_of(source: Any) -> bytes:
    """Return an array as a PNG."""
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
            f"an array of shape {array.shape} is no picture: (height, width) or (height, width, 1,"
            " 3 or 4) expected"
        )
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype.kind == "f":
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ValueError("an array of floats holds values from 0 to 1")
        pixels = (pixels * 255.0).round().astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise ValueError(
            f"an array of {pixels.dtype} is no picture: uint8, bool or floats expected"
        )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()
