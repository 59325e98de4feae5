"""A Pillow image as the file that gives ComfyUI the same picture as the image's own file would."""

from __future__ import annotations

import io
from typing import Any, Final

# What PNG stores as it is. ComfyUI converts anything to RGB when it loads a file, and so do we.
_STORED: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I;16L"})
_WITH_ALPHA: Final = frozenset({"La", "RGBa", "PA"})
# ComfyUI loads only the first of the frames of a stereo picture.
_ONE_FRAME: Final = "MPO"


# PNG has no integers of 32 bits, which depth maps have.
_DEEP: Final = "I"
# A frame is whole: how its own file put it together is not repeated.
_WHOLE_FRAMES: Final = {"save_all": True, "disposal": 0, "blend": 0, "default_image": False}


def file_of_pillow(image: Any) -> bytes:
    """Return a Pillow image as a file; all of its frames, and turned as its camera was held.

    It is a PNG, for a picture of mode I a TIFF.

    Raises:
        ValueError: It cannot be written.
    """
    buffer = io.BytesIO()
    frames = _frames(image)
    kind = "TIFF" if getattr(frames[0], "mode", "") == _DEEP else "PNG"
    try:
        more = {"append_images": frames[1:], **_WHOLE_FRAMES} if len(frames) > 1 else {}
        frames[0].save(buffer, format=kind, **more)
    except (OSError, ValueError) as error:
        raise ValueError(f"the image cannot be written as {kind}: {error}") from None
    return buffer.getvalue()


def _frames(image: Any) -> list[Any]:
    count = getattr(image, "n_frames", 1)
    if count == 1 or getattr(image, "format", None) == _ONE_FRAME:
        return [_plain(image)]
    from PIL import ImageSequence

    here = image.tell()
    frames = [_plain(frame.copy()) for frame in ImageSequence.Iterator(image)]
    image.seek(here)
    same = [frame for frame in frames if frame.size == frames[0].size]  # as ComfyUI does
    if all(frame.mode == _DEEP for frame in same):
        return same
    # Each may have a mode and a palette of its own; a PNG has one for all.
    has_alpha = any("A" in each.getbands() or "transparency" in each.info for each in same)
    return [frame.convert("RGBA" if has_alpha else "RGB") for frame in same]


def _plain(image: Any) -> Any:
    """Return a frame in a mode that is stored as it is, with its orientation applied."""
    if callable(getattr(image, "getexif", None)):
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    mode = getattr(image, "mode", "RGB")
    if mode in _STORED or mode == _DEEP:
        return image
    return image.convert("RGBA" if mode in _WITH_ALPHA else "RGB")
