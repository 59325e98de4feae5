"""The emulated depth estimator."""

import numpy as np

from comfyloom_emulator.rendering.fields import Field, blur, luminance, resize
from comfyloom_emulator.rendering.inflate import inflate


def depth_map(pixels: Field, mask: Field) -> Field:
    """Return a smooth nearness map (height, width), 0 to 1, from brightness and thickness."""
    height, width = mask.shape
    radius = max(1, min(height, width) // 100)
    light = blur(luminance(pixels).astype(np.float32), radius)
    thickness = resize(inflate(mask), height, width)
    return np.clip((0.55 * thickness + 0.45 * light) * blur(mask, 1), 0.0, 1.0)
