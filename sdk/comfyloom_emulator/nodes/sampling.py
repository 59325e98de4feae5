"""Nodes from depth and prompt to an image: control, latents, samplers, decoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from comfyloom_emulator.nodes.spec import Inputs, Node, NodeCall, NodeResult

if TYPE_CHECKING:
    from comfyloom_emulator.nodes.values import Conditioning, DepthControl, Latent, Picture
    from comfyloom_emulator.rendering.fields import Field


def _estimate_depth(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture
    from comfyloom_emulator.rendering.depth import depth_map
    from comfyloom_emulator.rendering.fields import resize

    source: Picture = call.inputs["image"]
    height, width = source.shape[1:3]
    scale = call.inputs.get("resolution", 512) / min(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = resize(source.pixels[0], *size)
    mask = np.clip(resize(_subject(source), *size), 0.0, 1.0)
    depth = depth_map(pixels, mask)
    return NodeResult(outputs=(Picture(np.repeat(depth[None, ..., None], 3, axis=3), mask),))


def _apply_control(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import DepthControl

    return NodeResult(outputs=(DepthControl(call.inputs["image"], call.inputs["strength"]),))


def _empty_latent(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Latent

    inputs = call.inputs
    latent = Latent(inputs["width"], inputs["height"], inputs["batch_size"])
    return NodeResult(outputs=(latent,))


def _sample_flux(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Latent

    inputs = call.inputs
    latent = inputs.get("latent_image") or Latent(1024, 1024)
    return _sample(
        latent,
        inputs["conditioning"],
        inputs["neg_conditioning"],
        inputs["noise_seed"],
        inputs.get("controlnet_condition"),
    )


def _sample_plain(call: NodeCall) -> NodeResult:
    inputs = call.inputs
    return _sample(
        inputs["latent_image"], inputs["positive"], inputs["negative"], inputs["seed"], None
    )


def _sample(
    latent: "Latent",
    positive: "Conditioning",
    negative: "Conditioning",
    seed: int,
    control: "DepthControl | None",
) -> NodeResult:
    import attrs
    import numpy as np

    from comfyloom_emulator.nodes.values import Picture
    from comfyloom_emulator.rendering.painting import Scene, paint

    mask, light = _mask_and_light(latent, seed, control)
    pictures = [
        paint(
            Scene(
                mask=mask,
                light=light,
                prompt=positive.text,
                negative=negative.text,
                seed=seed + index,
                control=1.0 if control is None else control.strength,
                guidance=positive.guidance,
            )
        )
        for index in range(latent.batch_size)
    ]
    picture = Picture(np.stack(pictures), mask)
    return NodeResult(outputs=(attrs.evolve(latent, picture=picture),), picture=picture)


def _mask_and_light(
    latent: "Latent", seed: int, control: "DepthControl | None"
) -> "tuple[Field, Field]":
    """Return mask and brightness of the subject to paint, in the latent's size."""
    import numpy as np

    from comfyloom_emulator.rendering.fields import luminance, resize
    from comfyloom_emulator.rendering.segmentation import generated_subject

    size = (latent.height, latent.width)
    source = latent.picture if control is None else control.depth
    if source is None:
        return generated_subject(seed, *size)
    mask = np.clip(resize(_subject(source), *size), 0.0, 1.0)
    return mask, resize(luminance(source.pixels[0]), *size)


def _subject(picture: "Picture") -> "Field":
    from comfyloom_emulator.rendering.segmentation import subject_of

    return subject_of(picture.pixels[0]) if picture.subject is None else picture.subject


def _decode(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Latent, Picture

    latent: Latent = call.inputs["samples"]
    if latent.picture is not None:
        return NodeResult(outputs=(latent.picture,))
    grey = np.full((latent.batch_size, latent.height, latent.width, 3), 0.5, np.float32)
    return NodeResult(outputs=(Picture(grey),))


def _steps(inputs: Inputs) -> int:
    return int(inputs["steps"])


def _one_step(_inputs: Inputs) -> int:
    return 1


SAMPLING: Mapping[str, Node] = {
    "DepthAnythingPreprocessor": Node(run=_estimate_depth, steps=_one_step),
    "ApplyFluxControlNet": Node(run=_apply_control),
    "EmptyLatentImage": Node(run=_empty_latent),
    "XlabsSampler": Node(run=_sample_flux, steps=_steps),
    "KSampler": Node(run=_sample_plain, steps=_steps),
    "VAEDecode": Node(run=_decode),
}
