"""Nodes that create and save meshes."""

from collections.abc import Mapping

from comfyloom_emulator.nodes.spec import Inputs, Node, NodeCall, NodeResult

_MAX_FACES = 60_000
_CELLS_PER_GRID_STEP = 0.4
_SIMPLIFIED_SHARE = 0.6


def _make_mesh(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.nodes.values import Mesh, OpaqueValue, Picture
    from comfyloom_emulator.rendering.fields import resize
    from comfyloom_emulator.rendering.relief import relief
    from comfyloom_emulator.rendering.segmentation import subject_of

    inputs = call.inputs
    source: Picture = inputs["image"]
    pixels = source.pixels[0]
    mask = subject_of(pixels)
    if inputs.get("mask") is not None:
        mask = np.clip(resize(inputs["mask"][0], *mask.shape), 0.0, 1.0)
    cells = inputs["grid_res"] * _CELLS_PER_GRID_STEP
    if inputs["simplify_mesh"]:
        cells *= _SIMPLIFIED_SHARE
    faces = min(_MAX_FACES, inputs["target_num_faces"])
    made = Mesh(relief(pixels, mask, int(cells), faces), pixels, mask)
    return NodeResult(outputs=(OpaqueValue("TRIMESH"), made, ""))


def _save_glb(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Mesh
    from comfyloom_emulator.rendering.glb import bleed_edges, encode_glb

    mesh: Mesh = call.inputs["mesh"]
    target = call.folders.save_target(call.inputs["filename_prefix"], "output")
    name = target.name("glb")
    glb = encode_glb(mesh.relief, bleed_edges(mesh.pixels, mesh.mask), call.metadata)
    path = target.directory / name
    path.write_bytes(glb)
    reference = {"filename": name, "subfolder": target.subfolder, "type": "output"}
    return NodeResult(ui={"3d": [reference]}, saved=(path,))


def _steps(inputs: Inputs) -> int:
    return int(inputs["steps"])


MESHES: Mapping[str, Node] = {
    "PartPacker_Sampler": Node(run=_make_mesh, steps=_steps),
    "SaveGLB": Node(run=_save_glb),
}
