"""Procedural textures: tone and relief of each pattern."""

from collections.abc import Callable, Mapping

import numpy as np

from comfyloom_emulator.rendering.fields import Field, blur, grid, noise, resize, smoothstep
from comfyloom_emulator.rendering.materials import Pattern

Texture = tuple[Field, Field]
"""Tone and relief, both around 0 and about -1 to 1."""


def texture(pattern: Pattern, rng: np.random.Generator, height: int, width: int) -> Texture:
    """Return the texture of a pattern."""
    return _PATTERNS[pattern](rng, height, width)


def _smooth(rng: np.random.Generator, height: int, width: int) -> Texture:
    tone = noise(rng, height, width, (3, 3), 3)
    return tone * 0.35, tone * 0.1


def _brushed(rng: np.random.Generator, height: int, width: int) -> Texture:
    strokes = noise(rng, height, width, (120, 5), 2)
    stains = noise(rng, height, width, (4, 4), 4)
    return strokes * 0.13 + stains * 0.4, strokes * 0.07 + stains * 0.45


def _veins(rng: np.random.Generator, height: int, width: int) -> Texture:
    x, y = grid(height, width)
    warp = noise(rng, height, width, (3, 3), 5)
    wave = np.sin(5.0 * (x + 0.6 * y) + 3.2 * warp).astype(np.float32)
    vein = 1.0 - smoothstep(0.0, 0.22, np.abs(wave))
    cloud = noise(rng, height, width, (4, 4), 4)
    return cloud * 0.45 - vein * 0.85, cloud * 0.15 - vein * 0.2


def _grain(rng: np.random.Generator, height: int, width: int) -> Texture:
    x, y = grid(height, width)
    warp = noise(rng, height, width, (2, 5), 4)
    rings = np.sin(26.0 * (x + 0.16 * warp) + 4.0 * y * y).astype(np.float32)
    fibres = noise(rng, height, width, (5, 110), 2)
    return rings * 0.45 + fibres * 0.4, rings * 0.25 + fibres * 0.5


def _speckle(rng: np.random.Generator, height: int, width: int) -> Texture:
    rough = noise(rng, height, width, (12, 12), 5)
    grains = noise(rng, height, width, (120, 120), 1)
    return rough * 0.45 + grains * 0.3, rough * 0.7 + grains * 0.2


def _cells(rng: np.random.Generator, height: int, width: int) -> Texture:
    first, second = _distances(rng, 9)
    edge = resize(smoothstep(0.0, 0.16, second - first), height, width)
    plate = resize(first, height, width)
    cloud = noise(rng, height, width, (4, 4), 4)
    tone = cloud * 0.4 + (edge - 0.75) * 0.9
    return tone, blur(edge - plate * 0.8, 1) + cloud * 0.25


def _distances(rng: np.random.Generator, count: int, size: int = 200) -> tuple[Field, Field]:
    """Return the distances, in cells, to the nearest and second nearest of random points."""
    axis = np.arange(size, dtype=np.float32) * np.float32(count / size)
    best = np.full((2, size, size), 9.0, np.float32)
    base = np.floor(axis).astype(np.intp)
    offsets = rng.random((count + 2, count + 2, 2), dtype=np.float32)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            rows, columns = base + down, base + across
            point = offsets[np.ix_(rows + 1, columns + 1)]
            dy = rows[:, None] + point[..., 0] - axis[:, None]
            dx = columns[None, :] + point[..., 1] - axis[None, :]
            distance = np.hypot(dx, dy).astype(np.float32)
            best[1] = np.minimum(best[1], np.maximum(best[0], distance))
            best[0] = np.minimum(best[0], distance)
    return best[0], best[1]


def _patina(rng: np.random.Generator, height: int, width: int) -> Texture:
    cloud = noise(rng, height, width, (5, 5), 5)
    spots = smoothstep(0.15, 0.75, noise(rng, height, width, (9, 9), 4))
    return cloud * 0.4 - spots * 0.5, cloud * 0.5 - spots * 0.4


_PATTERNS: Mapping[Pattern, Callable[[np.random.Generator, int, int], Texture]] = {
    "smooth": _smooth,
    "brushed": _brushed,
    "veins": _veins,
    "grain": _grain,
    "speckle": _speckle,
    "cells": _cells,
    "patina": _patina,
}
