"""Separates the subject of a picture from its background."""

import numpy as np
from numpy.typing import NDArray

from comfyloom_emulator.rendering.fields import Field, blur, grid, noise, resize, smoothstep

Flags = NDArray[np.bool_]

_MIN_AREA = 0.004
_MAX_SIDE = 160
_ROUNDS = 6
_MIN_DIFFERENCE = 0.022
_GAP = 1
_MAX_FRAME_DIFFERENCE = 0.12
_SAMPLES_PER_TERM = 4


def subject_of(pixels: Field) -> Field:
    """Return the mask of a picture's subject, 0 to 1.

    Uses the alpha channel if it is not opaque everywhere; otherwise the difference from the
    background, a smooth gradient fitted from the frame inwards. If everything is background,
    the whole picture is the subject.
    """
    if pixels.shape[2] == 4 and float(pixels[..., 3].min()) < 0.99:
        return np.asarray(pixels[..., 3], np.float32)
    height, width = pixels.shape[:2]
    scale = min(1.0, _MAX_SIDE / max(height, width))
    size = (max(8, round(height * scale)), max(8, round(width * scale)))
    ground, behind = _ground(resize(pixels[..., :3], *size))
    difference = np.abs(pixels[..., :3] - resize(ground, height, width)).max(axis=2)
    seen = difference[resize(behind, height, width) > 0.5]
    noise_level = float(np.median(seen)) if seen.size else 1.0
    threshold = max(_MIN_DIFFERENCE, 3.5 * noise_level)
    found = smoothstep(threshold * 0.7, threshold * 1.8, difference)
    if float(found.mean()) < _MIN_AREA:
        return np.ones(found.shape, np.float32)
    whole = _filled(resize(found, *size) > 0.5)
    core = resize((~_grown(~whole, 2)).astype(np.float32), height, width)
    reach = resize(whole.astype(np.float32), height, width)
    edge = _edge(difference, found) * smoothstep(0.05, 0.5, reach)
    # Specks outside the filled shape are noise; gaps deep inside it are shadows.
    return np.asarray(np.maximum(edge, smoothstep(0.5, 0.95, core)), np.float32)


def _edge(difference: Field, found: Field) -> Field:
    """Return the subject's share in each edge pixel: its contrast relative to nearby pixels."""
    radius = max(2, min(found.shape) // 80)
    nearby = blur(difference * found, radius) / np.maximum(blur(found, radius), 1e-3)
    return found * smoothstep(0.1, 0.75, difference / np.maximum(nearby, 1e-3))


def _ground(pixels: Field) -> tuple[Field, Field]:
    """Return the background, continued behind the subject, and where it is visible (0 or 1)."""
    height, width = pixels.shape[:2]
    terms = _terms(height, width)
    flat = pixels.reshape(-1, 3).astype(np.float64)
    behind = _frame(height, width).ravel()
    # The subject may cross the frame, but covers less than half of it. A frame of many colours is
    # used whole.
    similar = np.abs(flat - np.median(flat[behind], axis=0)).max(axis=1) < _MAX_FRAME_DIFFERENCE
    if (behind & similar).sum() >= _SAMPLES_PER_TERM * terms.shape[1]:
        behind &= similar
    fitted = flat
    for _ in range(_ROUNDS):
        weights = np.linalg.lstsq(terms[behind], flat[behind], rcond=None)[0]
        fitted = terms @ weights
        residual = np.abs(flat - fitted).max(axis=1)
        closer = residual < max(_MIN_DIFFERENCE * 0.6, 3.0 * float(np.median(residual[behind])))
        if closer.sum() < len(weights) * _SAMPLES_PER_TERM:
            break
        behind = closer
    ground = np.clip(fitted, 0.0, 1.0).reshape(height, width, 3).astype(np.float32)
    return ground, behind.reshape(height, width).astype(np.float32)


def _terms(height: int, width: int) -> NDArray[np.float64]:
    x, y = (axis.astype(np.float64).ravel() for axis in grid(height, width))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _frame(height: int, width: int) -> Flags:
    frame = np.ones((height, width), np.bool_)
    edge = max(1, min(height, width) // 24)
    frame[edge:-edge, edge:-edge] = False
    return frame


def _filled(found: Flags) -> Flags:
    """Close the gaps and fill the holes of a mask."""
    padded = np.pad(found, _GAP + 1)
    closed = _grown(padded, _GAP)
    outside = np.zeros_like(closed)
    outside[[0, -1], :] = True
    outside[:, [0, -1]] = True
    before = -1
    while (reached := int(outside.sum())) != before:
        before = reached
        outside = _grown(outside, 4, ~closed)
    solid = ~_grown(outside, _GAP)
    return np.asarray((solid | padded)[_GAP + 1 : -_GAP - 1, _GAP + 1 : -_GAP - 1], np.bool_)


def _grown(flags: Flags, times: int, within: Flags | None = None) -> Flags:
    for _ in range(times):
        wider = flags.copy()
        wider[1:] |= flags[:-1]
        wider[:-1] |= flags[1:]
        wider[:, 1:] |= flags[:, :-1]
        wider[:, :-1] |= flags[:, 1:]
        flags = wider if within is None else wider & within
    return flags


def generated_subject(seed: int, height: int, width: int) -> tuple[Field, Field]:
    """Return mask and brightness of a generated subject, for graphs without a render."""
    rng = np.random.default_rng(seed)
    x, y = grid(height, width)
    wobble = noise(rng, height, width, (2, 2), 2) * 0.12
    radius = np.hypot(x / 0.62, y / 0.72).astype(np.float32) + wobble
    mask = 1.0 - smoothstep(0.97, 1.03, radius)
    return mask, np.clip(0.9 - 0.5 * radius + wobble, 0.0, 1.0).astype(np.float32)
