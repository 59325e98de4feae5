"""The outputs of a workflow: typed files, text and data, and the functions that declare them.

Each function declares one public field of a generated result class, and the node that reports it:
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
