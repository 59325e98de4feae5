"""Draw a textured GLB from two sides: `python examples/draw_mesh.py MESH.glb IMAGE.png`.

Needs the extra `emulator` (numpy, Pillow, trimesh). Triangles are painted from the farthest to the
nearest, each in the colour of its texture, lit by one light.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image, ImageDraw

SIZE = 640
LIGHT = np.array((-0.4, 0.6, 0.7)) / np.linalg.norm((-0.4, 0.6, 0.7))
ANGLES = (-35.0, 40.0)


def colours(mesh: Any) -> Any:
    """Return the texture colour at the centre of each triangle: shape (n, 3), 0 to 255."""
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    u, v = mesh.visual.uv[mesh.faces].mean(axis=1).T
    height, width = texture.shape[:2]
    rows, columns = ((1 - v) * (height - 1)).astype(int), (u * (width - 1)).astype(int)
    return texture[rows.clip(0, height - 1), columns.clip(0, width - 1)].astype(float)


def draw(mesh: Any, degrees: float) -> Image.Image:
    """Return an image of the mesh, rotated about its vertical axis."""
    angle = np.radians(degrees)
    rotation = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    points = (mesh.vertices - mesh.bounding_box.centroid) @ rotation.T
    corners = points[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    bright = 0.35 + 0.65 * np.clip(normals @ LIGHT, 0, None)
    shaded = np.clip(colours(mesh) * bright[:, None], 0, 255).astype(int)
    flat = (corners[:, :, :2] * (1, -1) * 1.15 / mesh.scale + 0.5) * 2 * SIZE
    image = Image.new("RGB", (2 * SIZE, 2 * SIZE), (38, 38, 42))
    pen = ImageDraw.Draw(image)
    for face in np.argsort(corners[:, :, 2].mean(axis=1)):
        if normals[face, 2] > 0:
            pen.polygon([tuple(point) for point in flat[face]], fill=tuple(shaded[face]))
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def main(source: Path, target: Path) -> None:
    """Draw the mesh in `source` from both sides and save the image as `target`."""
    mesh = trimesh.load(source, force="mesh")
    sheet = Image.new("RGB", (SIZE * len(ANGLES), SIZE))
    for column, degrees in enumerate(ANGLES):
        sheet.paste(draw(mesh, degrees), (column * SIZE, 0))
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
