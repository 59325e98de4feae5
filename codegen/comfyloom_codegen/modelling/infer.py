"""The kind of value that a node input takes: by its schema if there is one, else by its value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import attrs

from comfyloom._workflow.files import FILE_KINDS
from comfyloom._workflow.input_spec import MISSING, Kind
from comfyloom._workflow.node_schemas import InputSchema
from comfyloom._workflow.outputs import OutputKind
from comfyloom_codegen.reading.schemas import closed_choices

ANY_SEED: Final = 2**64 - 1
"""The largest seed that any node takes."""

_SEEDS: Final = frozenset({"seed", "noise_seed"})
# Inputs whose files are uploaded: `(node type, input)` of ComfyUI and of the Video Helper Suite.
_LOADERS: Final[dict[tuple[str, str], Kind]] = {
    ("LoadImage", "image"): "image",
    ("LoadImageMask", "image"): "mask",
    ("LoadAudio", "audio"): "audio",
    ("LoadVideo", "file"): "video",
    ("VHS_LoadAudioUpload", "audio"): "audio",
    ("VHS_LoadVideo", "video"): "video",
    ("VHS_LoadImages", "directory"): "folder",
    ("LoadImageDataSetFromFolder", "folder"): "folder",
    ("LoadImageSetFromFolderNode", "folder"): "folder",
}
_UPLOADS: Final[dict[str, Kind]] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "file": "file",
}
_LARGEST_NUMBER: Final = 2**1023
# Inputs that only ComfyUI's web UI uses: its buttons, and its behaviour between two runs.
_UI_STATE: Final = frozenset(
    {"upload", "choose file to upload", "control_after_generate", "control_before_generate"}
)
_KEYS: Final[dict[OutputKind, str]] = {
    "image": "images",
    "animation": "images",
    "audio": "audio",
    "mesh": "3d",
    "text": "text",
}
_TEXTUAL: Final = FILE_KINDS | {"text", "choice"}
_ACCEPTED: Final[dict[str, frozenset[str]]] = {
    "INT": frozenset({"integer", "number", "seed", "choice"}),
    "FLOAT": frozenset({"integer", "number", "seed", "choice"}),
    "BOOLEAN": frozenset({"flag"}),
    "STRING": _TEXTUAL,
    "COMBO": _TEXTUAL | {"integer", "number"},
}
# ComfyUI types that only links carry; types of custom node packs may also be widget values.
_LINK_TYPES: Final = frozenset(
    {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "CONTROL_NET", "AUDIO"}
    | {"VIDEO", "MESH", "SAMPLER", "SIGMAS", "GUIDER", "NOISE", "CLIP_VISION"}
)


@attrs.frozen
class NodeOutput:
    """What a node reports: the kind, the key in its `ui` data, and the suffix of its files."""

    kind: OutputKind
    key: str = ""
    suffix: str = ""


# Reported by ComfyUI 0.3.64, the Video Helper Suite (VHS_) and Custom Scripts (pysssss); any other
# node may report a file.
_NODE_OUTPUTS: Final[dict[str, NodeOutput]] = {
    "SaveImage": NodeOutput("image", "images", ".png"),
    "PreviewImage": NodeOutput("image", "images", ".png"),
    "MaskPreview": NodeOutput("image", "images", ".png"),
    "SaveAnimatedPNG": NodeOutput("animation", "images", ".png"),
    "SaveAnimatedWEBP": NodeOutput("animation", "images", ".webp"),
    "SaveWEBM": NodeOutput("video", "images", ".webm"),
    "SaveVideo": NodeOutput("video", "images"),
    "VHS_VideoCombine": NodeOutput("video", "gifs"),
    "SaveAudio": NodeOutput("audio", "audio", ".flac"),
    "SaveAudioMP3": NodeOutput("audio", "audio", ".mp3"),
    "SaveAudioOpus": NodeOutput("audio", "audio", ".opus"),
    "PreviewAudio": NodeOutput("audio", "audio", ".flac"),
    "SaveGLB": NodeOutput("mesh", "3d", ".glb"),
    "Preview3D": NodeOutput("mesh", "result"),
    "PreviewAny": NodeOutput("text", "text"),
    "ShowText|pysssss": NodeOutput("text", "text"),
    "SaveLatent": NodeOutput("file", "latents", ".latent"),
}
_ANY_FILE: Final = NodeOutput("file")


@attrs.frozen(kw_only=True)
class Facts:
    """The kind and limits that one or several node inputs share."""

    kind: Kind
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()


def is_ui_state(name: str) -> bool:
    """Return whether an input is not read by the node, but only by ComfyUI's web UI."""
    return name.lower() in _UI_STATE


def node_output(class_type: str, kind: OutputKind | None = None) -> NodeOutput:
    """Return what a node of some type reports; `kind` is the kind that a binding gives."""
    known = _NODE_OUTPUTS.get(class_type, _ANY_FILE)
    if kind in (None, known.kind):
        return known
    return NodeOutput(kind or "file", known.key or _KEYS.get(kind or "file", ""))


def kind_of(class_type: str, name: str, sample: object, schema: InputSchema | None) -> Kind:
    """Return the kind of one node input.

    Args:
        class_type: The type of the node.
        name: The name of the input.
        sample: Its value in the file, MISSING if it is linked there.
        schema: Its schema, if it is known.
    """
    uploaded = _uploaded(class_type, name, schema)
    if uploaded and _has_type(sample, str):
        return uploaded
    is_integer = schema is None or schema.type == "INT"
    if name in _SEEDS and is_integer and _has_type(sample, int):
        return "seed"
    return (_by_schema(schema, sample) if schema else None) or _by_sample(sample)


def _uploaded(class_type: str, name: str, schema: InputSchema | None) -> Kind | None:
    known = _LOADERS.get((class_type, name))
    return known or (_UPLOADS.get(schema.upload) if schema else None)


def _by_schema(schema: InputSchema, sample: object) -> Kind | None:
    """Return the kind by the schema, None if it has none or the file's value contradicts it."""
    choices = closed_choices(schema)
    if choices and (sample is MISSING or sample in choices):
        return "choice"
    by_type: dict[str, tuple[Kind, type | tuple[type, ...]]] = {
        "INT": ("integer", int),
        "FLOAT": ("number", (int, float)),
        "BOOLEAN": ("flag", bool),
        "STRING": ("text", str),
        "COMBO": ("text", str),
    }
    kind, types = by_type.get(schema.type, ("value", ()))
    return kind if _has_type(sample, types) else None


def _by_sample(sample: object) -> Kind:
    match sample:
        case bool():
            return "flag"
        case int() | float() if abs(sample) < _LARGEST_NUMBER:
            # A FLOAT may hold a whole number.
            return "number"
        case str():
            return "text"
        case _:
            return "value"


def _has_type(sample: object, types: type | tuple[type, ...]) -> bool:
    if sample is MISSING:
        return True
    if isinstance(sample, bool):
        return types is bool
    is_huge = isinstance(sample, int) and abs(sample) >= _LARGEST_NUMBER
    return isinstance(sample, types) and not is_huge


def fits(kind: Kind, schema: InputSchema) -> bool:
    """Return whether an input takes values of a kind; an unknown type takes any."""
    if kind == "value":
        return True
    accepted = _ACCEPTED.get(schema.type)
    return schema.type not in _LINK_TYPES if accepted is None else kind in accepted


def seed_limit(schema: InputSchema | None) -> int:
    """Return the largest seed that an input takes."""
    return ANY_SEED if schema is None or schema.le is None else max(0, int(schema.le))


def facts_of(kind: Kind, schemas: Iterable[InputSchema | None]) -> Facts:
    """Return the limits that satisfy all schemas of one field; an unknown schema sets none."""
    known = [schema for schema in schemas if schema is not None]
    if kind == "choice":
        return Facts(kind=kind, choices=_common([closed_choices(schema) for schema in known]))
    if kind == "seed":
        least = lowest((schema.ge for schema in known), whole=True)
        return Facts(kind=kind, ge=least if least and least > 0 else None)
    if kind not in ("integer", "number"):
        return Facts(kind=kind)
    whole = kind == "integer"
    low = lowest((schema.ge for schema in known), whole=whole)
    high = highest((schema.le for schema in known), whole=whole)
    return Facts(kind=kind, ge=low, le=high)


def _common(lists: list[tuple[str, ...]]) -> tuple[str, ...]:
    first, *others = lists or [()]
    return tuple(choice for choice in first if all(choice in other for other in others))


def lowest(bounds: Iterable[float | None], *, whole: bool) -> float | None:
    """Return the smallest value that all lower bounds allow."""
    known = [bound for bound in bounds if bound is not None]
    return (math.ceil(max(known)) if whole else max(known)) if known else None


def highest(bounds: Iterable[float | None], *, whole: bool) -> float | None:
    """Return the largest value that all upper bounds allow."""
    known = [bound for bound in bounds if bound is not None]
    return (math.floor(min(known)) if whole else min(known)) if known else None
