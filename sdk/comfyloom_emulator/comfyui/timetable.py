"""How long nodes take, and the timetable of a run."""

from collections.abc import Mapping
from typing import Any

import attrs

from comfyloom_emulator.clock import Clock
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.options import Options

# Shares of a whole run; those of the flux-mesh graph add up to 1.
_SHARES: Mapping[str, float] = {
    "DualCLIPLoader": 0.025,
    "VAELoader": 0.025,
    "UNETLoader": 0.025,
    "LoadFluxControlNet": 0.025,
    "PartPacker_Loader": 0.025,
    "RemBGSession+": 0.025,
    "LoadImage": 0.05,
    "DepthAnythingPreprocessor": 0.05,
    "CLIPTextEncodeFlux": 0.025,
    "CLIPTextEncode": 0.025,
    "CheckpointLoaderSimple": 0.1,
    "ApplyFluxControlNet": 0.05,
    "EmptyLatentImage": 0.05,
    "XlabsSampler": 0.3,
    "KSampler": 0.3,
    "VAEDecode": 0.05,
    "ImageRemoveBackground+": 0.05,
    "PartPacker_Sampler": 0.15,
    "SaveImage": 0.025,
    "SaveGLB": 0.025,
}
_OTHER_SHARE = 0.01


def seconds_of(class_type: str, node: Node, inputs: Mapping[str, Any], options: Options) -> float:
    """The emulated seconds that a node takes."""
    if class_type in options.node_seconds:
        return options.node_seconds[class_type]
    if node.seconds is not None:
        return node.seconds(inputs)
    return options.run_s * _SHARES.get(class_type, _OTHER_SHARE)


@attrs.define
class Pace:
    """The time up to which a run has come.

    Waits are reckoned from one another, not from when they ended, so that work on the CPU and
    late wake-ups do not add to the time of a run.
    """

    clock: Clock
    _due: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._due = self.clock.now()

    async def spend(self, seconds: float) -> None:
        """Let a part of the run's time pass."""
        self._due += seconds
        await self.clock.sleep_until(self._due)
