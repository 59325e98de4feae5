"""What travels along the links between nodes."""

import attrs

from comfyloom_emulator.art.fields import Field
from comfyloom_emulator.art.relief import Relief


@attrs.frozen(eq=False)
class Picture:
    """A batch of pictures, the value of an IMAGE link.

    Attributes:
        pixels: Batch, height, width, channels (3 or 4), 0 to 1.
        subject: Height, width: how much a pixel belongs to what the picture shows, 0 to 1. The
            real nodes find that out with models; here it is handed on.
    """

    pixels: Field
    subject: Field | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the pixels."""
        return self.pixels.shape


@attrs.frozen(eq=False)
class Conditioning:
    """An encoded prompt."""

    text: str
    guidance: float = 1.0


@attrs.frozen(eq=False)
class Control:
    """Depth control of a sampler."""

    depth: Picture
    strength: float


@attrs.frozen(eq=False)
class Latent:
    """A latent image: its size in pixels, and the picture once a sampler has made it."""

    width: int
    height: int
    batch_size: int = 1
    picture: Picture | None = None


@attrs.frozen
class Token:
    """Something loaded that the emulator has no content for, such as a model."""

    kind: str
    name: str = ""


@attrs.frozen(eq=False)
class Mesh:
    """A mesh with the picture it was made from, which is its texture."""

    relief: Relief
    pixels: Field
    mask: Field
