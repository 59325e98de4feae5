"""The first bytes by which the formats of pictures, sounds and videos are recognised.

Of each format that Pillow reads (12.0), and of what audio and video nodes take. The lists name a
format; they never refuse one that is not in them, because the server may read more.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Media: TypeAlias = Literal["image", "audio", "video"]
Signatures: TypeAlias = tuple[tuple[bytes, int, str], ...]
"""Bytes, their offset in the file, and the format's suffix."""

IMAGES: Final[Signatures] = (
    (b"\x89PNG\r\n\x1a\n", 0, ".png"),
    (b"\xff\xd8\xff", 0, ".jpg"),
    (b"GIF87a", 0, ".gif"),
    (b"GIF89a", 0, ".gif"),
    (b"WEBP", 8, ".webp"),
    (b"BM", 0, ".bmp"),
    (b"II*\x00", 0, ".tif"),
    (b"MM\x00*", 0, ".tif"),
    (b"II+\x00", 0, ".tif"),
    (b"MM\x00+", 0, ".tif"),
    (b"ftypavif", 4, ".avif"),
    (b"ftypavis", 4, ".avif"),
    (b"ftypheic", 4, ".heic"),
    (b"ftypheix", 4, ".heic"),
    (b"ftypmif1", 4, ".heif"),
    (b"jP  \r\n\x87\n", 4, ".jp2"),
    (b"\xff\x4f\xff\x51", 0, ".j2k"),
    (b"JXL \r\n\x87\n", 4, ".jxl"),
    (b"\xff\x0a", 0, ".jxl"),
    (b"\x00\x00\x01\x00", 0, ".ico"),
    (b"\x00\x00\x02\x00", 0, ".cur"),
    (b"icns", 0, ".icns"),
    (b"DDS ", 0, ".dds"),
    (b"qoif", 0, ".qoi"),
    (b"8BPS", 0, ".psd"),
    (b"v/1\x01", 0, ".exr"),
    (b"#?RADIANCE", 0, ".hdr"),
    (b"\x01\xda", 0, ".sgi"),
    (b"BLP1", 0, ".blp"),
    (b"BLP2", 0, ".blp"),
    (b"SIMPLE  =", 0, ".fits"),
    (b"/* XPM */", 0, ".xpm"),
    *(
        (b"P" + kind + space, 0, suffix)
        for kind, suffix in (
            (b"1", ".pbm"),
            (b"2", ".pgm"),
            (b"3", ".ppm"),
            (b"4", ".pbm"),
            (b"5", ".pgm"),
            (b"6", ".ppm"),
            (b"7", ".pam"),
            (b"f", ".pfm"),
            (b"F", ".pfm"),
        )
        for space in (b"\n", b" ", b"\r", b"\t")
    ),
)
AUDIO: Final[Signatures] = (
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
VIDEOS: Final[Signatures] = (
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
UNSIGNED: Final = frozenset({".tga", ".pcx", ".dcx", ".xbm", ".im", ".msp", ".fli", ".flc", ".ras"})
"""Suffixes of picture formats without a signature of their own."""
_OF: Final[dict[Media, Signatures]] = {"image": IMAGES, "audio": AUDIO, "video": VIDEOS}
_OTHERS: Final = (b"%PDF", b"PK\x03\x04", b"\x7fELF", b"MZ", b"\x1f\x8b", b"glTF", b"Rar!")
# Brands of films and sounds in the container that newer pictures share with them.
_MOVING: Final = frozenset(
    {b"isom", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4A ", b"M4B ", b"M4V ", b"dash", b"MSNV"}
    | {b"iso%d" % number for number in range(2, 10)}
    | {b"3gp%d" % number for number in range(4, 8)}
)
_TEXT: Final = bytes({*range(32, 127), *b"\t\r\n\x0b\x0c"}) + bytes(range(128, 256))


def suffix_of(head: bytes, kind: Media) -> str | None:
    """Return the suffix of the format that a file's first bytes match, None if none matches."""
    for magic, offset, suffix in _OF[kind]:
        if head[offset : offset + len(magic)] == magic:
            return suffix
    return None


def is_something_else(head: bytes, kind: Media) -> bool:
    """Return whether a file is certainly not of a kind: of another kind, a document, or text."""
    if kind == "image" and head[4:8] == b"ftyp":
        return head[8:12] in _MOVING
    others = (suffix_of(head, other) for other in _OF if other != kind)
    if any(others) or head.startswith(_OTHERS):
        return True
    return not head.translate(None, _TEXT)
