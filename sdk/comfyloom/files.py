"""Files that go into a run: what a caller may give, and reading it safely."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import attrs

from comfyloom import formats


class PillowImage(Protocol):
    """What the SDK needs of a `PIL.Image.Image`; Pillow itself is never imported."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002
        """Write the picture to a file object."""
        ...


ImageSource: TypeAlias = str | os.PathLike[str] | bytes | PillowImage
"""A picture: the path of a file, the bytes of one, or a Pillow image."""

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", 0, ".png"),
    (b"\xff\xd8\xff", 0, ".jpg"),
    (b"GIF87a", 0, ".gif"),
    (b"GIF89a", 0, ".gif"),
    (b"WEBP", 8, ".webp"),
    (b"BM", 0, ".bmp"),
    (b"II*\x00", 0, ".tif"),
    (b"MM\x00*", 0, ".tif"),
)
PICTURE_FORMATS: Final = "PNG, JPEG, WebP, GIF, BMP or TIFF"


@attrs.frozen(kw_only=True)
class InputFile:
    """The whole content of one input file, and the name it is uploaded under."""

    content: bytes = attrs.field(repr=False)
    suffix: str

    @property
    def name(self) -> str:
        """A name that tells the content: the same picture is uploaded once, under one name."""
        return hashlib.sha256(self.content).hexdigest()[:32] + self.suffix


def is_image_source(value: object) -> bool:
    """Return whether a value is of a kind that can be a picture; nothing is opened."""
    return isinstance(value, str | os.PathLike | bytes) or callable(getattr(value, "save", None))


def source_name(source: ImageSource, fallback: str) -> str:
    """Return the file name that stands for a source before it is uploaded."""
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return fallback


def read_picture(source: ImageSource) -> InputFile:
    """Read a picture.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The content is no picture, with the reason.
    """
    content = _read(source)
    if not content:
        raise ValueError("the file is empty")
    suffix = picture_suffix(content)
    if suffix is None:
        raise ValueError(f"the file is no picture ({PICTURE_FORMATS} expected)")
    if formats.is_cut_off(content):
        raise ValueError("the PNG is cut off")
    return InputFile(content=content, suffix=suffix)


def picture_suffix(content: bytes) -> str | None:
    """Return the suffix that the first bytes of a picture ask for, None if it is no picture."""
    for magic, offset, suffix in _SIGNATURES:
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
