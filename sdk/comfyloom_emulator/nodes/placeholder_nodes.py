"""Placeholders, by output type, for node types that the emulator does not run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfyloom_emulator.comfyui.schemas import declared_inputs
from comfyloom_emulator.nodes.images import save_pictures
from comfyloom_emulator.nodes.spec import Node, NodeCall, NodeResult

if TYPE_CHECKING:
    from comfyloom_emulator.nodes.values import Picture

_SCALARS: Mapping[str, object] = {"STRING": "", "INT": 0, "FLOAT": 0.0, "BOOLEAN": False}
_SIDE = 256


def placeholder_node(schema: Mapping[str, Any]) -> Node:
    """Return a node that passes on inputs of its output types, and placeholders otherwise.

    An output node saves the first image or mesh among its inputs, or shows its values.
    """
    return Node(run=_save if schema["output_node"] else _make)


def _make(call: NodeCall) -> NodeResult:
    given = _values_by_type(call)
    outputs: list[object] = []
    for kind in call.schema["output"]:
        values = given.get(str(kind), [])
        outputs.append(values[0] if values else _value(kind, call))
        # The next output of this type gets the next input, as with positive and negative.
        del values[: len(values) > 1]
    return NodeResult(outputs=tuple(outputs))


def _values_by_type(call: NodeCall) -> dict[str, list[object]]:
    """Return the input values by declared type; numbers and strings are settings, not values."""
    given: dict[str, list[object]] = {}
    for spec in declared_inputs(call.schema):
        value = call.inputs.get(spec.name)
        if value is not None and not isinstance(value, (str, int, float)):
            given.setdefault(str(spec.kind), []).append(value)
    return given


def _value(kind: Any, call: NodeCall) -> object:
    from comfyloom_emulator.nodes.values import Conditioning, Latent, OpaqueValue

    if kind == "IMAGE":
        return _picture(call)
    if kind == "MASK":
        subject = _picture(call).subject
        return None if subject is None else subject[None]
    if kind == "LATENT":
        return Latent(_SIDE, _SIDE)
    if kind == "CONDITIONING":
        return Conditioning("")
    if kind in {"MESH", "TRIMESH"}:
        return _mesh(call)
    return _SCALARS[kind] if kind in _SCALARS else OpaqueValue(str(kind))


def _picture(call: NodeCall) -> "Picture":
    import zlib

    import numpy as np

    from comfyloom_emulator.nodes.values import Picture
    from comfyloom_emulator.rendering.painting import Scene, paint
    from comfyloom_emulator.rendering.segmentation import generated_subject

    seed = zlib.crc32(f"{call.class_type}|{call.node}".encode())
    mask, light = generated_subject(seed, _SIDE, _SIDE)
    pixels = paint(Scene(mask=mask, light=light, prompt=call.class_type, seed=seed))
    return Picture(np.ascontiguousarray(pixels[None]), mask)


def _mesh(call: NodeCall) -> object:
    from comfyloom_emulator.nodes.values import Mesh
    from comfyloom_emulator.rendering.relief import relief

    picture = _picture(call)
    assert picture.subject is not None
    made = relief(picture.pixels[0], picture.subject, 64, 8000)
    return Mesh(made, picture.pixels[0], picture.subject)


def _save(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Mesh, Picture

    prefix = str(call.inputs.get("filename_prefix", "ComfyUI"))
    for value in call.inputs.values():
        if isinstance(value, Picture):
            return save_pictures(call, value, prefix, "output")
        if isinstance(value, Mesh):
            return _save_mesh(call, value, prefix)
    texts = [str(value) for value in call.inputs.values() if isinstance(value, (str, int, float))]
    return NodeResult(ui={"text": texts})


def _save_mesh(call: NodeCall, mesh: Any, prefix: str) -> NodeResult:
    from comfyloom_emulator.rendering.glb import bleed_edges, encode_glb

    target = call.folders.save_target(prefix, "output")
    path: Path = target.directory / target.name("glb")
    path.write_bytes(encode_glb(mesh.relief, bleed_edges(mesh.pixels, mesh.mask), call.metadata))
    reference = {"filename": path.name, "subfolder": target.subfolder, "type": "output"}
    return NodeResult(ui={"3d": [reference]}, saved=(path,))
