"""Binary glTF files."""

import io
import json
import struct
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from comfyloom_emulator.rendering.fields import Field, blur, resize
from comfyloom_emulator.rendering.relief import Relief

_MAGIC = 0x46546C67
_JSON = 0x4E4F534A
_TEXTURE_SIDE = 512
_VERTICES, _INDICES = 34962, 34963


def encode_glb(relief: Relief, texture: Field, extras: Mapping[str, str]) -> bytes:
    """Return a GLB file of a textured relief, with strings in `asset.extras`."""
    # Imported by name because it is only partly typed, and late because it is slow to import.
    trimesh: Any = import_module("trimesh")
    material = trimesh.visual.material.PBRMaterial(
        name="relief",
        baseColorTexture=_jpeg(texture),
        metallicFactor=0.0,
        roughnessFactor=0.6,
        doubleSided=True,
    )
    # Normals are passed in, because trimesh takes seconds to compute them.
    mesh = trimesh.Trimesh(
        vertices=relief.vertices,
        faces=relief.faces,
        vertex_normals=relief.normals,
        visual=trimesh.visual.TextureVisuals(uv=relief.uvs, material=material),
        process=False,
    )
    glb: bytes = trimesh.Scene([mesh]).export(file_type="glb", include_normals=True)
    return _with_asset(glb, extras)


def _jpeg(texture: Field) -> Image.Image:
    out = io.BytesIO()
    side = _TEXTURE_SIDE
    pixels = (np.clip(resize(texture[..., :3], side, side), 0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(out, format="JPEG", quality=90)
    return Image.open(out)


def bleed_edges(pixels: Field, mask: Field) -> Field:
    """Spread a picture's colours over the edge of the mask, so that seams show no background."""
    result = pixels[..., :3]
    weight = np.where(mask > 0.9, mask, 0.0).astype(np.float32)
    for radius in (24, 8, 4):
        spread = blur(weight, radius)
        colour = np.stack([blur(pixels[..., i] * weight, radius) for i in range(3)], axis=-1)
        near = colour / np.maximum(spread, 1e-4)[..., None]
        known = np.minimum(spread * 8, 1.0)[..., None]
        result = near * known + result * (1 - known)
    keep = weight[..., None]
    return (pixels[..., :3] * keep + result * (1 - keep)).astype(np.float32)


def _with_asset(glb: bytes, extras: Mapping[str, str]) -> bytes:
    _, _, _, length, _ = struct.unpack_from("<IIIII", glb)
    document: dict[str, Any] = json.loads(glb[20 : 20 + length])
    asset: dict[str, object] = {"version": "2.0", "generator": "ComfyUI"}
    document["asset"] = {**asset, "extras": dict(extras)} if extras else asset
    _set_buffer_targets(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + length :]
    head = struct.pack("<III", _MAGIC, 2, 20 + len(text) + len(rest))
    return head + struct.pack("<II", len(text), _JSON) + text + rest


def _set_buffer_targets(document: dict[str, Any]) -> None:
    # The purpose of each buffer view; optional, but viewers and validators expect it.
    for mesh in document["meshes"]:
        for primitive in mesh["primitives"]:
            targets = dict.fromkeys(primitive["attributes"].values(), _VERTICES)
            targets[primitive["indices"]] = _INDICES
            for accessor, target in targets.items():
                view = document["accessors"][accessor]["bufferView"]
                document["bufferViews"][view]["target"] = target
