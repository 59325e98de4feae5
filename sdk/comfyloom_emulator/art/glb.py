"""Binary glTF files."""

import io
import json
import struct
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from comfyloom_emulator.art.fields import Field, blur, resize
from comfyloom_emulator.art.relief import Relief

_MAGIC = 0x46546C67
_JSON = 0x4E4F534A
_TEXTURE_SIDE = 512
_VERTICES, _INDICES = 34962, 34963


def encode_glb(relief: Relief, texture: Field, extras: Mapping[str, str]) -> bytes:
    """A GLB file of a textured relief, with texts in `asset.extras`."""
    # By name, since it is half typed; and only now, since it is dear to import.
    trimesh: Any = import_module("trimesh")
    material = trimesh.visual.material.PBRMaterial(
        name="relief",
        baseColorTexture=_jpeg(texture),
        metallicFactor=0.0,
        roughnessFactor=0.6,
        doubleSided=True,
    )
    # Given normals are taken as they are; trimesh takes seconds to find them itself.
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


def bled(pixels: Field, mask: Field) -> Field:
    """A picture whose colours run over the edge of the mask, so that no ground shows at seams."""
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
    _tell_targets(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + length :]
    head = struct.pack("<III", _MAGIC, 2, 20 + len(text) + len(rest))
    return head + struct.pack("<II", len(text), _JSON) + text + rest


def _tell_targets(document: dict[str, Any]) -> None:
    # What each stretch of the buffer is for; viewers need not be told, but like to be.
    for mesh in document["meshes"]:
        for primitive in mesh["primitives"]:
            targets = dict.fromkeys(primitive["attributes"].values(), _VERTICES)
            targets[primitive["indices"]] = _INDICES
            for accessor, target in targets.items():
                view = document["accessors"][accessor]["bufferView"]
                document["bufferViews"][view]["target"] = target
