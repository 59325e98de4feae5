"""The emulated mesh sampler: a closed, textured relief of a picture."""

from typing import cast

import attrs
import numpy as np
from numpy.typing import NDArray

from comfyloom_emulator.rendering.cells import around_corners, inner_corners, solid_cells
from comfyloom_emulator.rendering.fields import Field, blur, luminance, resize
from comfyloom_emulator.rendering.inflate import inflate

Indices = NDArray[np.int64]

_MAX_CELLS = 170
_SNAP_STEPS = 4
_RELAX_STEPS = 6
_THICKNESS = 0.2
_BACK_SHARE = 0.75
_DETAIL = 0.06


@attrs.frozen(eq=False)
class Relief:
    """The arrays of a closed mesh of about unit size, y up, facing +z.

    Attributes:
        vertices: Positions (count, 3).
        normals: Unit vectors (count, 3).
        uvs: Texture coordinates (count, 2), from the lower left corner of the picture.
        faces: Vertex indices (count, 3), counter-clockwise seen from outside.
    """

    vertices: Field
    normals: Field
    uvs: Field
    faces: Indices


def relief(pixels: Field, mask: Field, cells: int, max_faces: int) -> Relief:
    """Return the relief of a picture.

    Args:
        pixels: The picture (height, width, channels), 0 to 1.
        mask: The solid part, 0 to 1.
        cells: Grid cells along the longer side.
        max_faces: Maximum number of triangles.
    """
    cells = max(8, min(cells, _MAX_CELLS))
    while (made := _build(pixels, mask, cells)).faces.shape[0] > max_faces and cells > 8:
        surplus = made.faces.shape[0] / max_faces
        cells = max(8, min(cells - 1, int(cells / np.sqrt(surplus))))
    return made


def _build(pixels: Field, mask: Field, cells: int) -> Relief:
    solid = solid_cells(mask, cells)
    ids = np.full(tuple(side + 1 for side in solid.shape), -1, np.int64)
    used = around_corners(solid).any(axis=0)
    ids[used] = np.arange(int(used.sum()))
    inner = inner_corners(solid)
    points = _snapped(mask, ids, inner, *solid.shape)
    thickness, bumps = _heights(pixels, mask, points)
    return _closed(solid, ids, inner, points, thickness, bumps, mask.shape)


def _snapped(mask: Field, ids: Indices, inner: NDArray[np.bool_], rows: int, columns: int) -> Field:
    """Return vertex positions in pixels, with the rim moved to the outline of the mask."""
    height, width = mask.shape
    step = max(height / rows, width / columns)
    soft = blur(mask, max(1, round(step * 0.7)))
    down, across = cast("tuple[Field, Field]", np.gradient(soft))
    used = ids >= 0
    row, column = np.nonzero(used)
    points = np.stack([column * (width / columns), row * (height / rows)], axis=1)
    points = points.astype(np.float32) - np.float32(0.5)
    rim = ~inner[used]
    start = points[rim]
    moved = start.copy()
    for _ in range(_SNAP_STEPS):
        gap = _sample(soft, moved) - np.float32(0.5)
        slope = np.stack([_sample(across, moved), _sample(down, moved)], axis=1)
        steep = np.maximum((slope * slope).sum(axis=1), 1e-5)
        shift = -slope * (gap / steep)[:, None]
        moved = start + np.clip(moved + shift - start, -0.9 * step, 0.9 * step)
    points[rim] = moved
    return _relaxed(points, used, inner)


def _relaxed(points: Field, used: NDArray[np.bool_], inner: NDArray[np.bool_]) -> Field:
    """Spread the inner positions evenly, so that the steps of the rim do not continue inwards."""
    spread = np.zeros((*used.shape, 2), np.float32)
    spread[used] = points
    middle = inner[1:-1, 1:-1, None]
    for _ in range(_RELAX_STEPS):
        around = spread[:-2, 1:-1] + spread[2:, 1:-1] + spread[1:-1, :-2] + spread[1:-1, 2:]
        spread[1:-1, 1:-1] = np.where(middle, around * 0.25, spread[1:-1, 1:-1])
    return np.asarray(spread[used], np.float32)


def _sample(field: Field, points: Field) -> Field:
    """Return the interpolated values of a field at points (x, y) in pixels."""
    height, width = field.shape
    x = np.clip(points[:, 0], 0, width - 1.001)
    y = np.clip(points[:, 1], 0, height - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    fx, fy = x - column, y - row
    top = field[row, column] * (1 - fx) + field[row, column + 1] * fx
    bottom = field[row + 1, column] * (1 - fx) + field[row + 1, column + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float32)


def _heights(pixels: Field, mask: Field, points: Field) -> tuple[Field, Field]:
    """Return thickness (0 at the rim, at most 1) and detail (around 0) of each vertex."""
    height, width = mask.shape
    dome = resize(inflate(mask), height, width)
    light = blur(luminance(pixels).astype(np.float32), max(1, min(height, width) // 90))
    inside = light[mask > 0.5]
    middle = float(inside.mean()) if inside.size else 0.5
    thickness = np.clip(_sample(dome, points), 0.0, 1.0)
    # Bright highlights must not become high bumps.
    bumps = np.tanh((_sample(light, points) - middle) * 3.0) / 3.0
    return thickness, np.asarray(bumps * np.minimum(thickness * 2, 1), np.float32)


def _closed(
    solid: NDArray[np.bool_],
    front: Indices,
    inner: NDArray[np.bool_],
    points: Field,
    thickness: Field,
    bumps: Field,
    size: tuple[int, ...],
) -> Relief:
    inner_of = inner[front >= 0]
    depth = np.where(inner_of, thickness, 0.0).astype(np.float32)
    longest = np.float32(max(size))
    x = (points[:, 0] + 0.5 - size[1] / 2) / longest
    y = (size[0] / 2 - points[:, 1] - 0.5) / longest
    near = depth * _THICKNESS + np.where(inner_of, bumps, 0.0) * _DETAIL
    far = -depth * (_THICKNESS * _BACK_SHARE)
    uv = np.stack([(points[:, 0] + 0.5) / size[1], 1 - (points[:, 1] + 0.5) / size[0]], axis=1)
    behind = np.flatnonzero(inner_of)
    back_id = np.arange(len(points))
    back_id[behind] = len(points) + np.arange(len(behind))
    vertices = np.concatenate(
        [np.stack([x, y, near], axis=1), np.stack([x[behind], y[behind], far[behind]], axis=1)]
    ).astype(np.float32)
    faces = _faces(solid, front, inner, back_id)
    vertices = _centred(vertices)
    uvs = np.clip(np.concatenate([uv, uv[behind]]), 0.0, 1.0).astype(np.float32)
    return Relief(vertices, _vertex_normals(vertices, faces), uvs, faces)


def _faces(
    solid: NDArray[np.bool_], front: Indices, inner: NDArray[np.bool_], back_id: Indices
) -> Indices:
    row, column = np.nonzero(solid)
    a, b = front[row, column], front[row, column + 1]
    c, d = front[row + 1, column], front[row + 1, column + 1]
    # Diagonals alternate, so that the grid does not show as slanted folds. But where possible, one
    # end lies inside the rim, because front and back would share the diagonal otherwise.
    rising = inner[row, column + 1] | inner[row + 1, column]
    falling = inner[row, column] | inner[row + 1, column + 1]
    even = (np.where((row + column) % 2 == 0, rising, rising & ~falling))[:, None]
    one = np.where(even, np.stack([a, c, b], 1), np.stack([a, c, d], 1))
    two = np.where(even, np.stack([b, c, d], 1), np.stack([a, d, b], 1))
    near = np.concatenate([one, two])
    # Faces with all corners on the rim would coincide on front and back.
    far = back_id[near][:, ::-1]
    flat = (np.sort(far, axis=1) == np.sort(near, axis=1)).all(axis=1)
    return np.concatenate([near[~flat], far[~flat]])


def _centred(vertices: Field) -> Field:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    size = max(float((high - low).max()), 1e-6)
    return np.asarray((vertices - (low + high) / 2) / size, np.float32)


def _vertex_normals(vertices: Field, faces: Indices) -> Field:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a).astype(np.float64)
    count = len(vertices)
    normals = np.zeros((count, 3))
    for axis in range(3):
        for corner in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], across[:, axis], count)
    length = np.linalg.norm(normals, axis=1)
    normals[length < 1e-12] = (0.0, 0.0, 1.0)
    length[length < 1e-12] = 1.0
    return np.asarray(normals / length[:, None], np.float32)
