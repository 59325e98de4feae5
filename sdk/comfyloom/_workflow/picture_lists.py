"""Several images as the value of one input: a list, a folder, or an array with a batch axis."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import attrs

from comfyloom._core.redact import log
from comfyloom._workflow import signatures
from comfyloom._workflow.files import (
    ImageSource,
    InputFile,
    PictureArray,
    is_array,
    is_image_source,
    source_key,
)

ImageSources: TypeAlias = Sequence[ImageSource] | str | os.PathLike[str] | PictureArray
"""Several images: a list of them, or a folder, whose files are taken in the order of their names.

In that order, 2.png comes before 10.png. An array has the shape
`(images, height, width, channels)`, as ComfyUI's own batches have.
"""

_BATCH: Final = 4
_HEAD: Final = 64
_NUMBER: Final = re.compile(r"(\d+)")


def frozen(value: object) -> object:
    """Return a value that the caller cannot change: a list becomes a tuple."""
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def key_of(value: object) -> object:
    """Return the key that two values are compared by."""
    if isinstance(value, tuple):
        return tuple(map(source_key, cast("tuple[object, ...]", value)))
    return source_key(value)


def problem_of(value: object, count: int | None) -> str | None:
    """Return why a value is not several images, None if it may be; nothing is opened.

    Args:
        value: The value.
        count: How many there must be, None for any number but 0.
    """
    if isinstance(value, str | os.PathLike):
        return None
    images = _listed(value)
    if images is None:
        return f"expected a list of images or a folder, got {type(value).__name__}"
    for number, image in enumerate(images, 1):
        if not is_image_source(image):
            kind = type(image).__name__
            known = "a path, bytes, an open file, a Pillow image or a numpy array"
            return f"image {number}: expected {known}, got {kind}"
    return _wrong_count(len(images), count)


def images_of(value: ImageSources, count: int | None) -> list[ImageSource]:
    """Return the images of a value, in order.

    Args:
        value: What `problem_of` accepts.
        count: How many there must be, None for any number but 0.

    Raises:
        OSError: The folder cannot be read.
        ValueError: It does not have that many images.
    """
    if isinstance(value, str | os.PathLike):
        images: list[ImageSource] = [*_in_folder(Path(value))]
    else:
        images = [*(_listed(value) or [])]
    if wrong := _wrong_count(len(images), count):
        raise ValueError(wrong)
    return images


def as_folder(files: Sequence[InputFile]) -> list[InputFile]:
    """Return files with the names that make them one folder on a server, in their order.

    The folder is named after their content: the same images are uploaded only once, and a folder
    never has an image of another run.
    """
    digest = hashlib.sha256("\n".join(f"{file.digest}{file.suffix}" for file in files).encode())
    return [
        attrs.evolve(file, folder=digest.hexdigest()[:32], own_name=f"{number:05}{file.suffix}")
        for number, file in enumerate(files, 1)
    ]


def _listed(value: object) -> list[Any] | None:
    """Return the images of a list or of an array with a batch axis, None for anything else."""
    if isinstance(value, tuple | list):
        return list(cast("Sequence[object]", value))
    array: Any = value
    if is_array(value) and getattr(value, "ndim", 0) == _BATCH:
        return list(array)
    return None


def _in_folder(folder: Path) -> list[Path]:
    """Return the images in a folder, in the natural order of their names; subfolders are left."""
    files = [each for each in folder.iterdir() if each.is_file() and each.name[:1] != "."]
    images: list[Path] = []
    for path in files:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        is_known = path.suffix.lower() in signatures.UNSIGNED
        if is_known or signatures.suffix_of(head, "image") is not None:
            images.append(path)
    if len(images) < len(files):
        log.info("%s: %d files are not images and are left out", folder, len(files) - len(images))
    return sorted(images, key=_natural_key)


def _natural_key(path: Path) -> list[tuple[int, str]]:
    parts = _NUMBER.split(path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _wrong_count(found: int, wanted: int | None) -> str | None:
    if not found:
        return "there is no image"
    if wanted not in (None, found):
        return f"expected {wanted} images, one for each of its nodes, got {found}"
    return None
