"""Preview images of a running sampler."""

import io

import numpy as np
from PIL import Image

from comfyloom_emulator.nodes.values import Picture
from comfyloom_emulator.rendering.fields import resize

_MAX_SIDE = 192
_QUALITY = 60


class PreviewRenderer:
    """Renders small JPEGs of a picture that emerges from noise."""

    def __init__(self, picture: Picture) -> None:
        height, width = picture.shape[1:3]
        scale = min(1.0, _MAX_SIDE / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        self._clear = resize(picture.pixels[0, ..., :3], *size)
        self._noise = np.random.default_rng(0).random((*size, 3), dtype=np.float32)

    def jpeg(self, progress: float) -> bytes:
        """Return the preview at a progress from 0 to 1."""
        share = np.float32(max(0.0, 1.0 - progress) ** 1.5)
        mixed = np.clip(self._clear + (self._noise - self._clear) * share, 0.0, 1.0)
        out = io.BytesIO()
        image = Image.fromarray((mixed * 255).astype(np.uint8))
        image.save(out, format="JPEG", quality=_QUALITY)
        return out.getvalue()
