"""Nodes that make and save meshes."""

from collections.abc import Mapping

from comfyloom_emulator.nodes.spec import Inputs, Node, NodeCall, NodeResult

_MOST_FACES = 60_000
_CELLS_PER_GRID_STEP = 0.4
_SIMPLER = 0.6


def _make_mesh(call: NodeCall) -> NodeResult:
    import numpy as np

    from comfyloom_emulator.art.fields import resize
    from comfyloom_emulator.art.relief import relief
    from comfyloom_emulator.art.subject import subject_of
    from comfyloom_emulator.nodes.values import Mesh, Picture, Token

    inputs = call.inputs
    source: Picture = inputs["image"]
    pixels = source.pixels[0]
    mask = subject_of(pixels)
    if inputs.get("mask") is not None:
        mask = np.clip(resize(inputs["mask"][0], *mask.shape), 0.0, 1.0)
    cells = inputs["grid_res"] * _CELLS_PER_GRID_STEP
    if inputs["simplify_mesh"]:
        cells *= _SIMPLER
    faces = min(_MOST_FACES, inputs["target_num_faces"])
    made = Mesh(relief(pixels, mask, int(cells), faces), pixels, mask)
    return NodeResult(outputs=(Token("TRIMESH"), made, ""))


def _save_glb(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.art.glb import bled, encode_glb
    from comfyloom_emulator.nodes.values import Mesh

    mesh: Mesh = call.inputs["mesh"]
    place = call.folders.save_place(call.inputs["filename_prefix"], "output")
    name = place.name("glb")
    glb = encode_glb(mesh.relief, bled(mesh.pixels, mesh.mask), call.metadata)
    path = place.directory / name
    path.write_bytes(glb)
    reference = {"filename": name, "subfolder": place.subfolder, "type": "output"}
    return NodeResult(ui={"3d": [reference]}, saved=(path,))


def _steps(inputs: Inputs) -> int:
    return int(inputs["steps"])


MESHES: Mapping[str, Node] = {
    "PartPacker_Sampler": Node(run=_make_mesh, steps=_steps),
    "SaveGLB": Node(run=_save_glb),
}
