"""Pictures in any format: as a path, as bytes and as a Pillow image they give the same."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence, features

from comfyloom._workflow.files import read_input
from comfyloom._workflow.pillow_file import file_of_pillow
from comfyloom.emulator import Emulator
from comfyloom.errors import InputValueError
from small_runs import direct_session, small_workflow

COLORS = np.random.default_rng(3).integers(0, 255, (12, 20, 3), dtype=np.uint8)
RGB = Image.fromarray(COLORS)
ALPHA = Image.fromarray(np.dstack([COLORS, COLORS[:, :, :1]]))


def loaded(source: Any) -> list[Any]:
    """Return the pixels of all frames as ComfyUI's LoadImage reads them, alpha included."""
    image = Image.open(source)
    frames = [image] if image.format == "MPO" else ImageSequence.Iterator(image)
    found: list[Any] = []
    for frame in frames:
        turned: Any = ImageOps.exif_transpose(frame)
        if turned.mode == "I":
            turned = turned.point(lambda value: value * (1 / 255))
        has_alpha = "A" in turned.getbands() or "transparency" in turned.info
        found.append(np.asarray(turned.convert("RGBA" if has_alpha else "RGB")))
    return found


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(RGB, "JPEG", exif=exif, quality=95)


def written(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "turned.jpg": turned,
    "cmyk.jpg": lambda: written(RGB.convert("CMYK"), "JPEG"),
    "cmyk.tif": lambda: written(RGB.convert("CMYK"), "TIFF"),
    "float.tif": lambda: written(RGB.convert("F"), "TIFF"),
    "lab.tif": lambda: written(Image.new("LAB", (9, 7), (90, 120, 130)), "TIFF"),
    "deep.png": lambda: written(Image.fromarray(COLORS[:, :, 0].astype("uint16") * 200), "PNG"),
    "depth.tif": lambda: written(Image.fromarray(COLORS[:, :, 0].astype("int32") * 300), "TIFF"),
    "grey-alpha.png": lambda: written(ALPHA.convert("LA"), "PNG"),
    "palette.png": lambda: written(RGB.quantize(16), "PNG", transparency=3),
    "bits.png": lambda: written(RGB.convert("1"), "PNG"),
    "moving.gif": lambda: written(
        RGB, "GIF", save_all=True, append_images=[ImageOps.mirror(RGB), ImageOps.flip(RGB)]
    ),
    "moving.webp": lambda: written(
        RGB, "WEBP", save_all=True, lossless=True, append_images=[ImageOps.flip(RGB)]
    ),
    "moving.png": lambda: written(
        ALPHA,
        "PNG",
        save_all=True,
        append_images=[ImageOps.flip(ALPHA), ImageOps.mirror(ALPHA)],
        disposal=1,
        blend=1,
    ),
    "stereo.mpo": lambda: written(RGB, "MPO", save_all=True, append_images=[ImageOps.flip(RGB)]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_pillow_image_gives_the_picture_of_its_file(name: str) -> None:
    content = PICTURES[name]()
    by_path = loaded(io.BytesIO(content))
    by_image = loaded(io.BytesIO(file_of_pillow(Image.open(io.BytesIO(content)))))
    assert len(by_path) == len(by_image)
    for ours, its in zip(by_image, by_path, strict=True):
        assert ours.shape[:2] == its.shape[:2]
        assert np.abs(ours[..., :3].astype(int) - its[..., :3].astype(int)).max() <= 1


FORMATS = {
    "AVIF": ".avif",
    "BMP": ".bmp",
    "DDS": ".dds",
    "GIF": ".gif",
    "ICO": ".ico",
    "JPEG": ".jpg",
    "JPEG2000": ".jp2",
    "PCX": ".pcx",
    "PNG": ".png",
    "PPM": ".ppm",
    "QOI": ".qoi",
    "SGI": ".sgi",
    "TGA": ".tga",
    "TIFF": ".tif",
    "WEBP": ".webp",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_the_server_reads_goes_through(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.init()
    if kind not in Image.SAVE or (kind == "AVIF" and not features.check("avif")):
        pytest.skip(f"this Pillow does not write {kind}")
    path = tmp_path / f"picture{FORMATS[kind]}"
    RGB.resize((64, 64)).save(path, kind)
    with Emulator() as emulator, direct_session(emulator) as session:
        assert session.run(small_workflow(path), outputs=["image"]).image.size
        assert session.run(small_workflow(path.read_bytes()), outputs=["image"]).image.size
    assert "unknown format" not in caplog.text or kind in ("TGA", "PCX")


@pytest.mark.parametrize(
    ("content", "name", "suffix"),
    [
        (b"v/1\x01" + bytes(40), "x.exr", ".exr"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(40), "x.bin", ".avif"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "x.JPEG", ".jpeg"),
        (b"P3\n1 1\n255\n1 2 3\n", "x.ppm", ".ppm"),
        (b"\x00\x01\x02\x03 a format of tomorrow", "x.new", ".new"),
        (b"\x00\x01\x02\x03 a format of tomorrow", "x", ".bin"),
        (b"\x00\x00\x00\x1cftypmsf1 a picture of tomorrow", "x.heif", ".heif"),
    ],
)
def test_no_list_of_ours_refuses_a_format(
    content: bytes, name: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / name
    path.write_bytes(content)
    assert read_input(path, "image").suffix == suffix
    assert ("unknown format" in caplog.text) == (b"tomorrow" in content)


@pytest.mark.parametrize(
    "content",
    [b"just text", b"%PDF-1.7 \x00", b"PK\x03\x04\x00", b"RIFF\x00\x00\x00\x00WAVE"]
    + [b"\x00\x00\x00\x1cftyp" + brand + bytes(40) for brand in (b"isom", b"M4A ", b"qt  ")],
)
def test_what_is_certainly_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an image"):
        read_input(content, "image")
    with pytest.raises(InputValueError, match="not an image"):
        direct_read(content)


def direct_read(content: bytes) -> None:
    from comfyloom._workflow import run_values

    run_values.read_files(small_workflow(content))
