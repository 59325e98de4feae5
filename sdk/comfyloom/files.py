"""Files that go into a run: what a caller may give, and reading it safely."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs

from comfyloom import formats


class PillowImage(Protocol):
    """What the SDK needs of a `PIL.Image.Image`; Pillow itself is never imported."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002
        """Write the picture to a file object."""
        ...


ImageSource: TypeAlias = str | os.PathLike[str] | bytes | PillowImage
"""A picture: the path of a file, the bytes of one, or a Pillow image."""
FileSource: TypeAlias = str | os.PathLike[str] | bytes
"""A file: its path, or its bytes."""

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
# A container serves several suffixes: the one that a file already has is right then.
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,12}")
_OF_ONE_CONTAINER: Final = (
    frozenset({".mp4", ".m4v", ".m4a", ".mov"}),
    frozenset({".webm", ".mkv", ".mka"}),
    frozenset({".ogg", ".oga", ".opus", ".ogv"}),
)


@attrs.frozen(kw_only=True)
class InputFile:
    """The whole content of one input file, and the name it is uploaded under."""

    content: bytes = attrs.field(repr=False)
    suffix: str

    @property
    def name(self) -> str:
        """A name that tells the content: the same picture is uploaded once, under one name."""
        import hashlib

        return hashlib.sha256(self.content).hexdigest()[:32] + self.suffix


def is_image_source(value: object) -> bool:
    """Return whether a value is of a kind that can be a picture; nothing is opened."""
    return is_file_source(value) or callable(getattr(value, "save", None))


def is_file_source(value: object) -> bool:
    """Return whether a value is of a kind that can be a file; nothing is opened."""
    return isinstance(value, str | os.PathLike | bytes)


def source_name(source: ImageSource, fallback: str) -> str:
    """Return the file name that stands for a source before it is uploaded."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return fallback


def read_input(source: ImageSource, kind: FileKind) -> InputFile:
    """Read the file of an input.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The content is none of that kind, with the reason.
    """
    content = _read(source)
    if not content:
        raise ValueError("the file is empty")
    own = Path(source).suffix.lower() if isinstance(source, str | os.PathLike) else ""
    if kind == "file":
        return InputFile(content=content, suffix=own if _SUFFIX.fullmatch(own) else ".bin")
    signatures, complaint = _EXPECTED[kind]
    suffix = _suffix(content, signatures)
    if suffix is None:
        raise ValueError(complaint)
    if formats.is_cut_off(content):
        raise ValueError("the PNG is cut off")
    is_same = any({own, suffix} <= container for container in _OF_ONE_CONTAINER)
    return InputFile(content=content, suffix=own if is_same else suffix)


def _suffix(content: bytes, signatures: Signatures) -> str | None:
    """Return the suffix that the first bytes of a file ask for, None if none of these fits."""
    for magic, offset, suffix in signatures:
        if content[offset : offset + len(magic)] == magic:
            return suffix
    return None


def _read(source: ImageSource) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.exists() and not (path.is_file() or path.is_dir()):
            # It could be read only once, and might block for ever.
            raise ValueError("it is no regular file")
        return path.read_bytes()
    buffer = io.BytesIO()
    source.save(buffer, format="PNG")
    return buffer.getvalue()
