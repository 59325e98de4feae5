"""Two-dimensional arrays of numbers: scaling, blurring, noise."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field: TypeAlias = NDArray[np.floating[Any]]

_WIDE_RADIUS = 4


def resize(field: Field, height: int, width: int) -> Field:
    """Resample a field (height, width) or picture (height, width, channels) to another size."""
    if field.shape[:2] == (height, width):
        return field
    if field.ndim == 3:
        channels = [resize(field[..., index], height, width) for index in range(field.shape[2])]
        return np.stack(channels, axis=-1)
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    shrinks = height < field.shape[0]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(image.resize((width, height), method), dtype=np.float32)


def blur(field: Field, radius: int) -> Field:
    """Blur a field by about `radius` pixels, with the edges repeated."""
    if radius < 1:
        return field
    if radius >= _WIDE_RADIUS:
        # A wide blur leaves little detail, so fewer pixels are enough.
        height, width = field.shape
        factor = radius // 2
        small = resize(field, max(2, height // factor), max(2, width // factor))
        return resize(blur(small, 2), height, width)
    for _ in range(2):
        field = _box(_box(field, radius).T, radius).T
    return np.ascontiguousarray(field)


def _box(field: Field, radius: int) -> Field:
    padded = np.pad(field, ((radius + 1, radius), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0, dtype=np.float32)
    span = 2 * radius + 1
    return np.asarray((sums[span:] - sums[:-span]) / np.float32(span), np.float32)


def smoothstep(low: float, high: float, field: Field) -> Field:
    """Return 0 below `low`, 1 above `high` and an S curve between them."""
    t = np.clip((field - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[float, float], octaves: int
) -> Field:
    """Return fractal noise around 0, about -1 to 1.

    Args:
        rng: Source of randomness.
        height: Rows.
        width: Columns.
        cells: Bumps of the coarsest octave, down and across.
        octaves: Number of octaves; each doubles the detail.
    """
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    for octave in range(octaves):
        rows = min(height, max(2, round(cells[0] * 2**octave)) + 1)
        columns = min(width, max(2, round(cells[1] * 2**octave)) + 1)
        grid = rng.random((rows, columns), dtype=np.float32) * 2.0 - 1.0
        total += np.float32(weight) * resize(grid, height, width)
        weight *= 0.5
    return total * np.float32(1.1)


def grid(height: int, width: int) -> tuple[Field, Field]:
    """Return the coordinates x (right) and y (up), about -1 to 1 along the longer side."""
    longest = max(height, width)
    x = (np.arange(width, dtype=np.float32) * 2 + 1 - width) / longest
    y = (height - 1 - np.arange(height, dtype=np.float32) * 2) / longest
    columns, rows = np.meshgrid(x, y)
    return columns.astype(np.float32), rows.astype(np.float32)


def luminance(pixels: Field) -> Field:
    """Return the brightness of a picture (height, width, channels)."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(pixels[..., :3] @ weights, np.float32)
