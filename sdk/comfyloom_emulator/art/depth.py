"""What the emulated depth estimator sees."""

import numpy as np

from comfyloom_emulator.art.fields import Field, blur, luminance, resize
from comfyloom_emulator.art.inflate import inflate


def depth_map(pixels: Field, mask: Field) -> Field:
    """Nearness (height, width), 0 to 1: brightness and bulk of the subject, smooth."""
    height, width = mask.shape
    radius = max(1, min(height, width) // 100)
    light = blur(luminance(pixels).astype(np.float32), radius)
    bulk = resize(inflate(mask), height, width)
    return np.clip((0.55 * bulk + 0.45 * light) * blur(mask, 1), 0.0, 1.0)
