"""Pictures that get the alpha channel of another."""

import io
from pathlib import Path

from PIL import Image


def save_masked(original: Path, mask: bytes, target: Path) -> None:
    """Save a picture with the alpha channel of an uploaded one.

    Raises:
        OSError: One of them is no picture.
        ValueError: They are not of the same size.
    """
    with Image.open(original) as first, Image.open(io.BytesIO(mask)) as second:
        picture, alpha = first.convert("RGBA"), second.convert("RGBA").getchannel("A")
    if picture.size != alpha.size:
        raise ValueError("the mask has another size than the picture")
    picture.putalpha(alpha)
    picture.save(target, compress_level=4)
