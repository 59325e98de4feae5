"""What a run gives: typed files, texts and data, and the field functions of generated classes.

Each function declares one public field of a result, and the node that reports it:
`outputs.image("24", "images", file="flux.png")`.
"""

from comfyloom._workflow.outputs import (
    METADATA,
    OUTPUT_TYPES,
    AnimationOutput,
    AudioOutput,
    FileOutput,
    ImageOutput,
    MeshOutput,
    Output,
    OutputKind,
    OutputSpec,
    VideoOutput,
    animation,
    audio,
    file,
    image,
    json,
    mesh,
    text,
    video,
)

__all__ = [
    "METADATA",
    "OUTPUT_TYPES",
    "AnimationOutput",
    "AudioOutput",
    "FileOutput",
    "ImageOutput",
    "MeshOutput",
    "Output",
    "OutputKind",
    "OutputSpec",
    "VideoOutput",
    "animation",
    "audio",
    "file",
    "image",
    "json",
    "mesh",
    "text",
    "video",
]
