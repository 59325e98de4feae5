"""The values that links carry between nodes."""

import attrs

from comfyloom_emulator.rendering.fields import Field
from comfyloom_emulator.rendering.relief import Relief


@attrs.frozen(eq=False)
class Picture:
    """A batch of images, the value of an IMAGE link.

    Attributes:
        pixels: Batch, height, width, channels (3 or 4), 0 to 1.
        subject: Mask of the subject (height, width), 0 to 1. Real nodes segment with a model; here
            the mask is passed along.
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
class DepthControl:
    """A depth image that guides a sampler, and its strength."""

    depth: Picture
    strength: float


@attrs.frozen(eq=False)
class Latent:
    """A latent image: its size in pixels, and its picture once a sampler has run."""

    width: int
    height: int
    batch_size: int = 1
    picture: Picture | None = None


@attrs.frozen
class OpaqueValue:
    """A value without content in the emulator, such as a model."""

    kind: str
    name: str = ""


@attrs.frozen(eq=False)
class Mesh:
    """A mesh with the picture it was made from, which becomes its texture."""

    relief: Relief
    pixels: Field
    mask: Field
