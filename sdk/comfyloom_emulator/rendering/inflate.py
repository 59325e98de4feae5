"""Inflates a flat shape like a balloon."""

import numpy as np

from comfyloom_emulator.rendering.fields import Field, resize, smoothstep

_COARSEST = 20
_SWEEPS = 60


def inflate(mask: Field, longest: int = 128) -> Field:
    """Return the thickness of each point of a shape: 0 at its edge, 1 at its thickest point.

    Solves for a membrane over the shape, from a coarse grid to a fine one, and takes its square
    root, so that the edge rises as steeply as the edge of a round body.

    Args:
        mask: The shape, 0 to 1.
        longest: Points along the longer side of the result.
    """
    height, width = mask.shape
    scale = longest / max(height, width)
    size = (max(3, round(height * scale)), max(3, round(width * scale)))
    membrane = np.zeros((3, 3), np.float32)
    for factor in (8, 4, 2, 1):
        rows, columns = (max(3, side // factor) for side in size)
        if max(rows, columns) < _COARSEST and factor != 1:
            continue
        # Points on the edge count partly, which keeps the grid's steps out of the outline.
        inside = smoothstep(0.2, 0.8, resize(mask, rows, columns))
        membrane = _relax(resize(membrane, rows, columns), inside, 1.0 / max(rows, columns))
    top = float(membrane.max())
    return np.sqrt(np.maximum(membrane, 0.0) / top) if top > 0 else membrane


def _relax(membrane: Field, inside: Field, step: float) -> Field:
    padded = np.zeros((membrane.shape[0] + 2, membrane.shape[1] + 2), np.float32)
    padded[1:-1, 1:-1] = np.maximum(membrane, 0.0) * inside
    load = np.float32(step * step)
    quarter = np.float32(0.25) * inside
    for _ in range(_SWEEPS):
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        padded[1:-1, 1:-1] = (around + load) * quarter
    return padded[1:-1, 1:-1]
