"""Nodes that load images, and models as opaque values."""

import contextlib
from collections.abc import Mapping
from typing import Any

from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.nodes.spec import Inputs, Node, NodeCall, NodeResult, file_digest


def _load_image(call: NodeCall) -> NodeResult:
    import numpy as np
    from PIL import Image, ImageOps

    from comfyloom_emulator.nodes.values import Picture
    from comfyloom_emulator.rendering.segmentation import subject_of

    with Image.open(call.folders.annotated_path(call.inputs["image"])) as file:
        image = ImageOps.exif_transpose(file).convert("RGBA")
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    mask = 1.0 - pixels[..., 3]
    if float(pixels[..., 3].min()) >= 1.0:
        mask = np.zeros((64, 64), np.float32)
    picture = Picture(np.ascontiguousarray(pixels[None, ..., :3]), subject_of(pixels))
    return NodeResult(outputs=(picture, mask[None]))


def _check_image(folders: Folders, name: Any) -> str | None:
    with contextlib.suppress(ValueError):
        if folders.annotated_path(str(name)).is_file():
            return None
    return f"Invalid image file: {name}"


def _image_digest(folders: Folders, inputs: Inputs) -> str:
    name = inputs.get("image")
    return file_digest(folders.annotated_path(name)) if isinstance(name, str) else ""


LOAD_IMAGE = Node(run=_load_image, validate={"image": _check_image}, fingerprint=_image_digest)


def _load_model(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import OpaqueValue

    texts = [value for value in call.inputs.values() if isinstance(value, str)]
    name = texts[0] if texts else ""
    return NodeResult(outputs=tuple(OpaqueValue(kind, name) for kind in call.schema["output"]))


_MODEL = Node(run=_load_model)

LOADERS: Mapping[str, Node] = {
    "LoadImage": LOAD_IMAGE,
    "CheckpointLoaderSimple": _MODEL,
    "DualCLIPLoader": _MODEL,
    "LoadFluxControlNet": _MODEL,
    "PartPacker_Loader": _MODEL,
    "RemBGSession+": _MODEL,
    "UNETLoader": _MODEL,
    "VAELoader": _MODEL,
}
