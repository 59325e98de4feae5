"""Materials by the words of a prompt."""

import colorsys
import hashlib
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

Colour: TypeAlias = tuple[float, float, float]
Pattern: TypeAlias = Literal["smooth", "brushed", "veins", "grain", "speckle", "cells", "patina"]


@attrs.frozen
class Material:
    """The look of a surface.

    Attributes:
        palette: Colours (sRGB, 0 to 1) from dark to light tones.
        pattern: Its texture.
        metal: 0 for a dielectric, 1 for a metal.
        gloss: 0 for matt, 1 for polished.
        bump: Depth of the texture, 0 to 1.
        glow: Share of light that shines through, 0 to 1.
    """

    palette: tuple[Colour, ...]
    pattern: Pattern
    metal: float = 0.0
    gloss: float = 0.5
    bump: float = 0.5
    glow: float = 0.0


def _palette(*codes: str) -> tuple[Colour, ...]:
    return tuple(
        (int(code[0:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:6], 16) / 255)
        for code in codes
    )


_GOLD = Material(_palette("6b4310", "c98a1b", "f4c64e", "ffe9a0"), "brushed", 1.0, 0.85, 0.25)
_BRASS = Material(_palette("4d3312", "9c6f24", "d3a54a", "f2dc93"), "brushed", 1.0, 0.7, 0.4)
_BRONZE = Material(_palette("2c1a0f", "71431f", "b0763d", "e3b77c"), "patina", 0.9, 0.5, 0.5)
_COPPER = Material(_palette("4a1c10", "a4502c", "dc8558", "f9c3a0"), "patina", 1.0, 0.65, 0.35)
_STEEL = Material(_palette("23272d", "5f6a76", "a3afba", "eef3f7"), "brushed", 1.0, 0.8, 0.25)
_IRON = Material(_palette("17181a", "3d3f43", "6d7076", "a8acb2"), "speckle", 0.8, 0.35, 0.6)
_JADE = Material(_palette("0c3a28", "2f7d57", "78bf93", "cdebd3"), "veins", 0.0, 0.8, 0.15, 0.6)
_MARBLE = Material(_palette("8d8a8c", "cfccca", "ece9e6", "ffffff"), "veins", 0.0, 0.6, 0.1, 0.25)
_ICE = Material(_palette("1d5a86", "62a9d4", "b4e0f4", "f5fdff"), "cells", 0.0, 0.95, 0.35, 0.9)
_GLASS = Material(_palette("23525a", "6fb3b5", "bfe6e2", "ffffff"), "smooth", 0.0, 1.0, 0.1, 0.9)
_CRYSTAL = Material(_palette("3d1c63", "8a55c4", "c9a6ef", "fbf1ff"), "cells", 0.0, 0.95, 0.5, 0.7)
_WOOD = Material(_palette("3a1f10", "7a4a26", "b27d48", "dcb482"), "grain", 0.0, 0.3, 0.35)
_STONE = Material(_palette("3b3a38", "74716c", "a8a49c", "d6d2c9"), "speckle", 0.0, 0.15, 0.9)
_CLAY = Material(_palette("5a2a1a", "a85a38", "d28a62", "efc3a2"), "speckle", 0.0, 0.15, 0.35)
_CERAMIC = Material(_palette("8a93a0", "c8d0da", "edf1f5", "ffffff"), "smooth", 0.0, 0.9, 0.12, 0.2)
_OBSIDIAN = Material(_palette("060609", "17171f", "33333f", "7a7a8c"), "smooth", 0.2, 1.0, 0.2)
_LEATHER = Material(_palette("24120a", "5b2f18", "8b5028", "bd8450"), "cells", 0.0, 0.35, 0.5)
_CLOTH = Material(_palette("3a2340", "6f4a78", "a17fab", "d8c1dc"), "speckle", 0.0, 0.05, 0.5)
_BONE = Material(_palette("6e5f47", "b5a384", "ded1b5", "f7f0df"), "speckle", 0.0, 0.3, 0.35, 0.2)
_LAVA = Material(_palette("120604", "3a0d06", "c23a0b", "ffc23a"), "cells", 0.0, 0.3, 0.9, 0.5)
_CORAL = Material(_palette("7a1f2b", "d9535a", "f59a8c", "ffe0d2"), "speckle", 0.0, 0.3, 0.8, 0.3)
_PLAIN = Material(_palette("333333", "777777", "bbbbbb", "f4f4f4"), "smooth", 0.0, 0.45, 0.3, 0.1)

_MATERIALS: Mapping[str, Material] = {
    "gold": _GOLD, "golden": _GOLD, "gilded": _GOLD,
    "brass": _BRASS, "steampunk": _BRASS, "clockwork": _BRASS,
    "bronze": _BRONZE, "copper": _COPPER,
    "steel": _STEEL, "silver": _STEEL, "chrome": _STEEL, "metal": _STEEL, "metallic": _STEEL,
    "robot": _STEEL, "aluminium": _STEEL, "aluminum": _STEEL,
    "iron": _IRON, "rusty": _BRONZE,
    "jade": _JADE, "emerald": _JADE, "malachite": _JADE,
    "marble": _MARBLE, "alabaster": _MARBLE,
    "ice": _ICE, "icy": _ICE, "frozen": _ICE, "snow": _ICE,
    "glass": _GLASS, "crystal": _CRYSTAL, "amethyst": _CRYSTAL, "gem": _CRYSTAL,
    "wood": _WOOD, "wooden": _WOOD, "oak": _WOOD, "carved": _WOOD, "tree": _WOOD,
    "stone": _STONE, "rock": _STONE, "granite": _STONE, "concrete": _STONE, "statue": _STONE,
    "clay": _CLAY, "terracotta": _CLAY,
    "ceramic": _CERAMIC, "porcelain": _CERAMIC, "obsidian": _OBSIDIAN,
    "leather": _LEATHER, "cloth": _CLOTH, "velvet": _CLOTH, "wool": _CLOTH, "knitted": _CLOTH,
    "bone": _BONE, "ivory": _BONE, "lava": _LAVA, "magma": _LAVA, "fire": _LAVA,
    "coral": _CORAL,
}  # fmt: skip

_HUES: Mapping[str, tuple[float, float]] = {
    "red": (0.99, 0.8), "crimson": (0.96, 0.85), "scarlet": (0.01, 0.85),
    "orange": (0.07, 0.85), "amber": (0.1, 0.85), "yellow": (0.14, 0.85),
    "green": (0.36, 0.6), "lime": (0.25, 0.75), "olive": (0.2, 0.5), "teal": (0.49, 0.65),
    "turquoise": (0.48, 0.7), "cyan": (0.52, 0.7), "blue": (0.6, 0.75), "navy": (0.63, 0.8),
    "indigo": (0.69, 0.65), "purple": (0.77, 0.6), "violet": (0.75, 0.6),
    "magenta": (0.86, 0.75), "pink": (0.93, 0.5), "rose": (0.95, 0.5), "brown": (0.07, 0.55),
    "white": (0.1, 0.03), "black": (0.65, 0.12), "grey": (0.6, 0.05), "gray": (0.6, 0.05),
}  # fmt: skip
_DARK = frozenset({"black", "dark", "navy"})


def material_for(prompt: str) -> Material:
    """Return the material that a prompt names, or one derived from a hash of its words."""
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    named = [_MATERIALS[word] for word in words if word in _MATERIALS]
    hues = [word for word in words if word in _HUES]
    if named and not hues:
        return named[0]
    base = named[0] if named else _from_hash(words)
    if not hues:
        return base
    hue, saturation = _HUES[hues[0]]
    if hues[0] == "white":
        return attrs.evolve(base, palette=_MARBLE.palette)
    return attrs.evolve(base, palette=_tones(hue, saturation, dark=hues[0] in _DARK))


def _from_hash(words: list[str]) -> Material:
    digest = hashlib.sha256(" ".join(sorted(set(words))).encode()).digest()
    patterns: tuple[Pattern, ...] = ("smooth", "veins", "speckle", "cells", "grain")
    return attrs.evolve(
        _PLAIN,
        palette=_tones(digest[0] / 256, 0.35 + digest[1] / 700, dark=False),
        pattern=patterns[digest[2] % len(patterns)],
        gloss=0.3 + digest[3] / 512,
        bump=0.25 + digest[4] / 700,
    )


def _tones(hue: float, saturation: float, *, dark: bool) -> tuple[Colour, ...]:
    lights = (0.05, 0.14, 0.26, 0.5) if dark else (0.16, 0.38, 0.6, 0.88)
    shifts = (-0.04, -0.015, 0.0, 0.03)
    return tuple(
        colorsys.hls_to_rgb((hue + shift) % 1.0, light, saturation)
        for light, shift in zip(lights, shifts, strict=True)
    )
