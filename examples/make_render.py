"""Make the render of the demo, a smooth hand in studio light.

Run it with `python examples/make_render.py FILE.png`; it needs numpy and Pillow. The shape is a
signed distance field of smoothly blended capsules; each pixel's ray is marched to the surface.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

SIZE = 768
STEPS = 72
BACKGROUND = 0.055
# Each capsule: start and end (x, y, z), and radius. The palm, the wrist and five fingers.
CAPSULES = (
    ((-0.16, -0.10, 0.0), (0.16, -0.10, 0.0), 0.27),
    ((-0.10, -0.28, 0.0), (0.10, -0.26, 0.0), 0.24),
    ((0.0, -0.42, -0.03), (0.02, -0.85, -0.08), 0.19),
    ((-0.30, 0.08, 0.02), (-0.43, 0.52, 0.10), 0.085),
    ((-0.11, 0.16, 0.03), (-0.17, 0.72, 0.13), 0.095),
    ((0.09, 0.16, 0.03), (0.11, 0.70, 0.12), 0.095),
    ((0.26, 0.10, 0.02), (0.36, 0.52, 0.09), 0.085),
    ((0.30, -0.22, 0.08), (0.62, 0.10, 0.24), 0.100),
)
BLEND = 0.085
LIGHTS = (((-0.55, 0.65, 0.75), 0.50), ((0.85, 0.15, 0.45), 0.16), ((0.0, -0.6, 0.4), 0.06))


def distance(points: Array) -> Array:
    """Return the distance of points, shape (n, 3), from the surface."""
    total: Array = np.full(len(points), 1e3, np.float32)
    for start, end, radius in CAPSULES:
        a, axis = np.array(start, np.float32), np.subtract(end, start, dtype=np.float32)
        along = np.clip((points - a) @ axis / (axis @ axis), 0, 1)[:, None]
        capsule = np.linalg.norm(points - a - along * axis, axis=1) - radius
        mix = np.clip(0.5 + 0.5 * (total - capsule) / BLEND, 0, 1)
        total = total * (1 - mix) + capsule * mix - BLEND * mix * (1 - mix)
    return total.astype(np.float32)


def normals(points: Array) -> Array:
    """Return the unit normals of the surface at points, shape (n, 3)."""
    step = 1e-3
    offsets = np.eye(3, dtype=np.float32) * step
    slopes = [distance(points + o) - distance(points - o) for o in offsets]
    gradient = np.stack(slopes, axis=1)
    return gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def shade(points: Array) -> Array:
    """Return the brightness of surface points, 0 to 1: lights, highlights, ambient occlusion."""
    normal = normals(points)
    light = np.full(len(points), 0.03, np.float32)
    for direction, strength in LIGHTS:
        towards = np.array(direction, np.float32) / np.linalg.norm(direction)
        light += strength * np.clip(normal @ towards, 0, None)
        half = towards + np.array((0, 0, 1), np.float32)
        light += 0.30 * strength * np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 40
    openness = np.clip(distance(points + 0.12 * normal) / 0.12, 0, 1)
    return np.clip(light * (0.45 + 0.55 * openness), 0, 1)


def render(size: int) -> Array:
    """Return the image: shape (size, size), brightness 0 to 1."""
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(grid, -grid)
    origin = np.stack([x.ravel(), y.ravel() - 0.08, np.full(size * size, 1.2, np.float32)], axis=1)
    image = (BACKGROUND * (1.15 - 0.5 * np.hypot(x, y))).ravel()
    alive = np.arange(size * size)
    for _ in range(STEPS):
        gap = distance(origin[alive])
        origin[alive, 2] -= 0.9 * gap
        alive = alive[origin[alive, 2] > -1]
    hit = alive[distance(origin[alive]) < 5e-3]
    image[hit] = shade(origin[hit])
    return image.reshape(size, size)


def main(path: Path) -> None:
    """Write the image, rendered at twice its size and scaled down to smooth the edges."""
    large = (np.clip(render(2 * SIZE), 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    Image.fromarray(large).resize((SIZE, SIZE), Image.Resampling.LANCZOS).convert("RGB").save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
