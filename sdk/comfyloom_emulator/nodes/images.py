"""Nodes that change and save images."""

import random
import string
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from comfyloom_emulator.comfyui.folders import Folders
from comfyloom_emulator.nodes.spec import Inputs, Node, NodeCall, NodeResult

if TYPE_CHECKING:
    import PIL.Image

    from comfyloom_emulator.nodes.values import Picture

_COMPRESSION = 4
_SUFFIX_LETTERS = 5


def _remove_background(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture
    from comfyloom_emulator.rendering.fields import resize
    from comfyloom_emulator.rendering.segmentation import subject_of

    source: Picture = call.inputs["image"]
    height, width = source.shape[1:3]
    masks = [
        subject_of(pixels) if source.subject is None else resize(source.subject, height, width)
        for pixels in source.pixels
    ]
    alpha = np.clip(np.stack(masks), 0.0, 1.0)
    cut = np.concatenate([source.pixels[..., :3], alpha[..., None]], axis=3)
    return NodeResult(outputs=(Picture(cut, alpha[0]), alpha))


def _save(call: NodeCall) -> NodeResult:
    return save_pictures(call, call.inputs["images"], call.inputs["filename_prefix"], "output")


def _preview(call: NodeCall) -> NodeResult:
    letters = "".join(random.choices(string.ascii_lowercase, k=_SUFFIX_LETTERS))
    return save_pictures(call, call.inputs["images"], f"ComfyUI_temp_{letters}", "temp")


def save_pictures(call: NodeCall, picture: "Picture", prefix: str, kind: str) -> NodeResult:
    """Save a batch as PNG files with the graph embedded.

    Args:
        call: The call of the saving node.
        picture: The images to save.
        prefix: File name prefix, with directories.
        kind: The folder: `output` or `temp`.
    """
    height, width = picture.shape[1:3]
    target = call.folders.save_target(prefix, kind, width, height)
    references: list[dict[str, str]] = []
    saved: list[Path] = []
    for index in range(picture.shape[0]):
        name = target.name("png", index)
        _write_png(picture, index, target.directory / name, call.metadata)
        saved.append(target.directory / name)
        references.append({"filename": name, "subfolder": target.subfolder, "type": kind})
    return NodeResult(ui={"images": references}, saved=tuple(saved))


def _write_png(picture: "Picture", index: int, path: Path, metadata: Mapping[str, str]) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in metadata.items():
        info.add_text(key, text)
    _image(picture, index).save(path, pnginfo=info, compress_level=_COMPRESSION)


def _image(picture: "Picture", index: int) -> "PIL.Image.Image":
    import numpy as np
    from PIL import Image

    pixels = (np.clip(picture.pixels[index], 0.0, 1.0) * 255).astype(np.uint8)
    return Image.fromarray(pixels)


def _send(call: NodeCall) -> NodeResult:
    import io

    picture: Picture = call.inputs["images"]
    frames: list[bytes] = []
    for index in range(picture.shape[0]):
        buffer = io.BytesIO()
        _image(picture, index).save(buffer, "PNG", compress_level=_COMPRESSION)
        frames.append(buffer.getvalue())
    return NodeResult(frames=tuple(frames))


def _never_the_same(_folders: Folders, _inputs: Inputs) -> str:
    return uuid.uuid4().hex


IMAGES: Mapping[str, Node] = {
    "ImageRemoveBackground+": Node(run=_remove_background),
    "SaveImage": Node(run=_save),
    "PreviewImage": Node(run=_preview),
    "SaveImageWebsocket": Node(run=_send, fingerprint=_never_the_same),
}
