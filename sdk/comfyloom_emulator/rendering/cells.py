"""The grid cells of a relief, chosen so that its surface is manifold."""

import numpy as np
from numpy.typing import NDArray

from comfyloom_emulator.rendering.fields import Field, resize

Flags = NDArray[np.bool_]

_ROUNDS = 8


def solid_cells(mask: Field, cells: int) -> Flags:
    """Return which cells of a grid, with `cells` along its longer side, a shape fills.

    No two cells touch only at a corner, and no edge belongs to four faces of the surface around
    the cells. At least one corner is surrounded by cells.
    """
    height, width = mask.shape
    scale = cells / max(height, width)
    shape = (max(4, round(height * scale)), max(4, round(width * scale)))
    solid = np.asarray(resize(mask, *shape) > 0.5, np.bool_)
    solid[[0, -1], :] = False
    solid[:, [0, -1]] = False
    if not inner_corners(solid).any():
        middle = (shape[0] // 2, shape[1] // 2)
        solid[middle[0] - 1 : middle[0] + 1, middle[1] - 1 : middle[1] + 1] = True
    for _ in range(_ROUNDS):
        wider = _without_pinches(_without_touching_corners(solid))
        if (wider == solid).all():
            break
        solid = wider
    return solid


def around_corners(solid: Flags) -> Flags:
    """Return for each corner of the grid whether each of the four cells around it is solid."""
    padded = np.pad(solid, 1)
    return np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])


def inner_corners(solid: Flags) -> Flags:
    """Return the corners whose four cells are all solid."""
    return np.asarray(around_corners(solid).all(axis=0), np.bool_)


def _without_touching_corners(solid: Flags) -> Flags:
    a, b, c, d = solid[:-1, :-1], solid[:-1, 1:], solid[1:, :-1], solid[1:, 1:]
    falling, rising = a & d & ~b & ~c, b & c & ~a & ~d
    filled = solid.copy()
    filled[:-1, 1:] |= falling
    filled[:-1, :-1] |= rising
    return filled


def _without_pinches(solid: Flags) -> Flags:
    inner = inner_corners(solid)
    rim = around_corners(solid).any(axis=0) & ~inner
    pinched = _pinches(solid, rim, inner) | _pinches(solid.T, rim.T, inner.T).T
    filled = solid | pinched[:-1, :-1] | pinched[:-1, 1:] | pinched[1:, :-1] | pinched[1:, 1:]
    return np.asarray(filled, np.bool_)


def _pinches(solid: Flags, rim: Flags, inner: Flags) -> Flags:
    """Return the corners of edges with both ends on the rim and surface on both sides."""
    both = rim[1:-1, :-1] & rim[1:-1, 1:] & solid[:-1, :] & solid[1:, :]
    above = inner[:-2, :-1] | inner[:-2, 1:]
    below = inner[2:, :-1] | inner[2:, 1:]
    corners = np.zeros(rim.shape, np.bool_)
    corners[1:-1, :-1] |= both & above & below
    corners[1:-1, 1:] |= both & above & below
    return corners
