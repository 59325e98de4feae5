"""The emulated sampler's picture: a lit relief of the subject in a material."""

import hashlib

import attrs
import numpy as np
from numpy.typing import NDArray

from comfyloom_emulator.rendering.fields import Field, blur, grid, resize, smoothstep
from comfyloom_emulator.rendering.inflate import inflate
from comfyloom_emulator.rendering.materials import Material, material_for
from comfyloom_emulator.rendering.textures import texture

_KEY_LIGHT = (-0.55, 0.62, 0.56)
_FILL_LIGHT = (0.78, 0.05, 0.62)
_BOX_LAMP = (-0.42, 0.66, 0.62)
_STRIP_LAMP = (0.86, 0.12, 0.5)


@attrs.frozen(eq=False)
class Scene:
    """The input of `paint`.

    Attributes:
        mask: Mask of the subject, 0 to 1, in the size of the picture.
        light: Brightness of the subject in the render, 0 to 1.
        prompt: The prompt.
        negative: The negative prompt.
        seed: Seed of the randomness.
        control: Influence of the render's brightness on the shape, 0 to 10.
        guidance: Strength of the material, 0 to 100.
    """

    mask: Field
    light: Field
    prompt: str
    negative: str = ""
    seed: int = 0
    control: float = 1.0
    guidance: float = 4.0


def paint(scene: Scene) -> Field:
    """Return the picture (height, width, 3), 0 to 1 in sRGB."""
    material = material_for(scene.prompt)
    rng = np.random.default_rng(_seed(scene))
    height, width = scene.mask.shape
    dome = np.clip(blur(resize(inflate(scene.mask, 200), height, width), 1), 0.0, 1.0)
    tone, relief = texture(material.pattern, rng, height, width)
    surface = _surface(scene, material, dome, relief)
    colour = _colour(material, scene, dome, tone)
    lit = _shade(material, surface, colour, dome)
    ground = _ground(material, scene.mask, rng)
    alpha = scene.mask[..., None]
    mixed = lit * alpha + ground * (1.0 - alpha)
    return np.asarray(np.clip(mixed, 0.0, 1.0) ** (1 / 2.2), np.float32)


def _seed(scene: Scene) -> int:
    text = f"{scene.seed}|{scene.prompt}|{scene.negative}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _surface(scene: Scene, material: Material, dome: Field, relief: Field) -> Field:
    """Return the heights, in units of half the longer side."""
    light = blur(scene.light, max(1, min(dome.shape) // 160))
    inside = scene.mask > 0.5
    low, high = np.percentile(light[inside], (2, 98)) if inside.any() else (0.0, 1.0)
    shape = np.clip((light - low) / max(float(high - low), 0.05), 0.0, 1.0).astype(np.float32)
    strength = min(1.5, scene.control)
    depth = 0.5 * dome + 0.16 * strength * shape * smoothstep(0.0, 0.5, dome)
    return np.asarray(depth + 0.018 * material.bump * relief, np.float32)


def _colour(material: Material, scene: Scene, dome: Field, tone: Field) -> Field:
    stops = np.array(material.palette, np.float32) ** np.float32(2.2)
    vivid = 0.8 + 0.4 * float(np.tanh(scene.guidance / 8))
    where = 0.5 + 0.42 * vivid * tone + 0.12 * (dome - 0.5)
    positions = np.linspace(0.0, 1.0, len(stops))
    channels = [np.interp(where, positions, stops[:, index]) for index in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _normals(surface: Field) -> tuple[Field, Field, Field]:
    scale = np.float32(max(surface.shape) / 2)
    down, across = np.gradient(surface)
    nx, ny = -across * scale, down * scale
    length = np.sqrt(nx * nx + ny * ny + 1.0)
    return nx / length, ny / length, 1.0 / length


def _shade(material: Material, surface: Field, colour: Field, dome: Field) -> Field:
    nx, ny, nz = _normals(surface)
    reflected = (2 * nz * nx, 2 * nz * ny, 2 * nz * nz - 1)
    hollow = np.clip(
        1.0 + 9.0 * (surface - blur(surface, max(2, min(dome.shape) // 40))), 0.35, 1.25
    )
    key = np.clip(_dot((nx, ny, nz), _KEY_LIGHT), 0.0, 1.0)
    fill = np.clip(_dot((nx, ny, nz), _FILL_LIGHT), 0.0, 1.0)
    sky = 0.5 + 0.5 * ny
    rim = (1.0 - nz) ** 3
    diffuse = (0.16 + 0.2 * sky) * hollow + 1.05 * key + 0.22 * fill
    through = material.glow * (0.35 * (1.0 - dome) + 0.25 * rim)
    body = colour * (diffuse * (1.0 - 0.82 * material.metal) + through)[..., None]
    mirror = _surroundings(reflected) * hollow
    metallic = colour * (mirror * 1.25 * material.metal)[..., None]
    shine = _highlights(material, reflected) * hollow + 0.25 * rim * material.gloss * (0.4 + sky)
    tint = 1.0 + (colour - 1.0) * np.float32(material.metal * 0.7)
    return _tone_map(body + metallic + tint * shine[..., None])


def _dot(vector: tuple[Field, Field, Field], direction: tuple[float, float, float]) -> Field:
    length = float(np.hypot(np.hypot(direction[0], direction[1]), direction[2]))
    x, y, z = (part / length for part in direction)
    return np.asarray(vector[0] * x + vector[1] * y + vector[2] * z, np.float32)


def _surroundings(reflected: tuple[Field, Field, Field]) -> Field:
    """Return the reflection of a studio: sky, dark horizon, floor, two lamps."""
    up = reflected[1]
    sky = 0.12 + 0.75 * smoothstep(-0.05, 0.75, up)
    floor = 0.3 * smoothstep(0.1, 0.8, -up)
    lamps = 2.4 * np.exp(-14.0 * (1.0 - _dot(reflected, _BOX_LAMP)))
    lamps += 0.9 * np.exp(-22.0 * (1.0 - _dot(reflected, _STRIP_LAMP)))
    return np.asarray(sky + floor + lamps, np.float32)


def _highlights(material: Material, reflected: tuple[Field, Field, Field]) -> Field:
    sharp = 6.0 + 90.0 * material.gloss**2
    peak = 0.15 + 1.1 * material.gloss
    spot = np.exp(-sharp * (1.0 - _dot(reflected, _BOX_LAMP)))
    strip = np.exp(-sharp * (1.0 - _dot(reflected, _STRIP_LAMP)))
    return np.asarray(peak * (spot + 0.35 * strip), np.float32)


def _tone_map(light: Field) -> Field:
    light = light * np.float32(1.15)
    return np.asarray(light * (1.0 + light / 6.0) / (1.0 + light * 0.6), np.float32)


def _ground(material: Material, mask: Field, rng: np.random.Generator) -> Field:
    """Return the backdrop: a dim gradient in a complementary tint, with the subject's shadow."""
    height, width = mask.shape
    x, y = grid(height, width)
    middle: NDArray[np.float32] = np.array(material.palette[1], np.float32) ** np.float32(2.2)
    tint = 0.5 * (middle.max() + middle.min() - middle) + 0.06
    fall = 0.16 + 0.2 * np.exp(-1.6 * (x * x + (y - 0.15) ** 2))
    shadow = blur(np.roll(mask, (height // 24, width // 40), (0, 1)), max(2, width // 26))
    dim = fall * (1.0 - 0.55 * shadow)
    grain = 0.004 * rng.standard_normal((height, width), dtype=np.float32)
    return np.asarray((dim + grain)[..., None] * (0.55 + tint), np.float32)
