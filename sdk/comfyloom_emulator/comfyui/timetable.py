"""The durations of nodes, and the timetable of a run."""

from collections.abc import Mapping
from typing import Any

import attrs

from comfyloom_emulator.clock import EmulatorClock
from comfyloom_emulator.nodes.spec import Node
from comfyloom_emulator.options import Options

# Shares of the duration of a run; the shares in the flux-mesh graph add up to 1.
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
_DEFAULT_SHARE = 0.01


def node_duration_s(
    class_type: str, node: Node, inputs: Mapping[str, Any], options: Options
) -> float:
    """Return the emulated seconds that a node takes."""
    if class_type in options.node_seconds:
        return options.node_seconds[class_type]
    if node.seconds is not None:
        return node.seconds(inputs)
    return options.run_s * _SHARES.get(class_type, _DEFAULT_SHARE)


@attrs.define
class Timetable:
    """The planned times of a run's steps.

    Each wait starts at the planned end of the previous one, so that CPU work and late wake-ups do
    not add to the duration of a run.
    """

    clock: EmulatorClock
    _due: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._due = self.clock.now()

    async def spend(self, seconds: float) -> None:
        """Wait until the next `seconds` of the plan have passed."""
        self._due += seconds
        await self.clock.sleep_until(self._due)
