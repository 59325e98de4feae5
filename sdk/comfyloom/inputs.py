"""The inputs of a workflow: the field functions that generated classes call.

Each function declares one public field of the kind it is named after, and the node inputs that its
value goes to: `inputs.text("34.clip_l", "34.t5xxl")`.
"""

from comfyloom._workflow.input_spec import METADATA, MISSING, UNSET, InputSpec, Kind, Target
from comfyloom._workflow.inputs import (
    audio,
    choice,
    file,
    flag,
    folder,
    image,
    images,
    integer,
    mask,
    number,
    reduced,
    seed,
    text,
    value,
    video,
)

__all__ = [
    "METADATA",
    "MISSING",
    "UNSET",
    "InputSpec",
    "Kind",
    "Target",
    "audio",
    "choice",
    "file",
    "flag",
    "folder",
    "image",
    "images",
    "integer",
    "mask",
    "number",
    "reduced",
    "seed",
    "text",
    "value",
    "video",
]
