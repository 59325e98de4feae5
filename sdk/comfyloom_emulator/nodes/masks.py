"""Images that get the alpha channel of another image."""

import io
from pathlib import Path

from PIL import Image


def save_masked(original: Path, mask: bytes, target: Path) -> None:
    """Save an image with the alpha channel of an uploaded image.

    Raises:
        OSError: One of the files is not an image.
        ValueError: The images differ in size.
    """
    with Image.open(original) as first, Image.open(io.BytesIO(mask)) as second:
        picture, alpha = first.convert("RGBA"), second.convert("RGBA").getchannel("A")
    if picture.size != alpha.size:
        raise ValueError("the mask and the picture differ in size")
    picture.putalpha(alpha)
    picture.save(target, compress_level=4)
