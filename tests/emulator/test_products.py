"""The picture, the mesh and their files."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyloom.emulator import Emulator
from emulator.clients import ComfyUIClient
from emulator.lab import flux_mesh, sleep


def _products(comfyui: ComfyUIClient, graph: Any) -> tuple[bytes, bytes]:
    outputs = comfyui.run(graph)["outputs"]
    return comfyui.view(outputs["24"]["images"][0]), comfyui.view(outputs["33"]["3d"][0])


def _pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def _chunks(glb: bytes) -> tuple[Any, bytes]:
    magic, version, length = struct.unpack_from("<III", glb)
    assert (magic, version, length) == (0x46546C67, 2, len(glb))
    size, kind = struct.unpack_from("<II", glb, 12)
    assert (kind, size % 4) == (0x4E4F534A, 0)
    document = json.loads(glb[20 : 20 + size])
    rest, kind = struct.unpack_from("<II", glb, 20 + size)
    assert (kind, rest % 4) == (0x004E4942, 0)
    return document, glb[28 + size : 28 + size + rest]


def _accessor(document: Any, data: bytes, index: int) -> Any:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
    kind = {5125: np.uint32, 5126: np.float32}[accessor["componentType"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(data, kind, accessor["count"] * width, start)
    return values.reshape(-1, width)


def test_equal_inputs_give_equal_bytes() -> None:
    results = []
    for _ in range(2):
        with Emulator() as emulator:
            comfyui = ComfyUIClient(emulator.comfyui_url)
            results.append(_products(comfyui, flux_mesh()))
            comfyui.http.close()
    assert results[0] == results[1]


@pytest.fixture(scope="session")
def products() -> Any:
    """The files of a plain run and of runs with one change each."""
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("3", {}),
        "seed": ("3", {"noise_seed": 1234}),
        "prompt": ("34", {"clip_l": "a jade frog", "t5xxl": "a jade frog"}),
        "negative": ("19", {"clip_l": "blurry"}),
        "strength": ("14", {"strength": 0.2}),
        "guidance": ("34", {"guidance": 20.0}),
        "coarse": ("32", {"grid_res": 128, "simplify_mesh": True}),
        "few": ("32", {"target_num_faces": 1000}),
        "size": ("6", {"width": 640, "height": 400}),
    }
    with Emulator() as emulator:
        comfyui = ComfyUIClient(emulator.comfyui_url)
        made = {}
        for name, (node, inputs) in changes.items():
            graph = flux_mesh(size=520)
            graph[node]["inputs"] |= inputs
            made[name] = _products(comfyui, graph)
        comfyui.http.close()
    return made


@pytest.mark.parametrize("change", ["seed", "prompt", "negative", "strength", "guidance", "size"])
def test_the_picture_depends_on_its_inputs(products: Any, change: str) -> None:
    assert products[change][0] != products["plain"][0]


def test_the_picture_has_a_transparent_background(products: Any) -> None:
    pixels = _pixels(products["plain"][0])
    assert pixels.shape == (520, 520, 4)
    alpha = pixels[..., 3]
    assert alpha[0].max() == alpha[-1].max() == 0
    assert alpha[260, 260] == 255
    assert 0.1 < (alpha > 128).mean() < 0.6
    assert pixels[alpha > 128][:, :3].std() > 20


def test_the_picture_has_the_latents_size(products: Any) -> None:
    assert _pixels(products["size"][0]).shape == (400, 640, 4)


def test_the_prompt_sets_the_colour(products: Any) -> None:
    def mean(png: bytes) -> Any:
        pixels = _pixels(png)
        return pixels[pixels[..., 3] > 200][:, :3].mean(axis=0)

    brass, jade = mean(products["plain"][0]), mean(products["prompt"][0])
    assert brass[0] > brass[1] > brass[2]
    assert jade[1] > jade[0]


def test_the_mesh_is_closed_and_textured(products: Any) -> None:
    document, data = _chunks(products["plain"][1])
    (primitive,) = document["meshes"][0]["primitives"]
    attributes = primitive["attributes"]
    positions = _accessor(document, data, attributes["POSITION"])
    normals = _accessor(document, data, attributes["NORMAL"])
    uvs = _accessor(document, data, attributes["TEXCOORD_0"])
    faces = _accessor(document, data, primitive["indices"]).reshape(-1, 3)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    assert uvs.min() >= 0
    assert uvs.max() <= 1
    size = positions.max(axis=0) - positions.min(axis=0)
    assert size.max() == pytest.approx(1, abs=1e-4)
    assert size[2] < size[0] < size[1]
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert set(counts) == {2}
    a, b, c = (positions[faces[:, i]].astype(float) for i in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 > 0.01
    assert document["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert document["images"][0]["mimeType"] in {"image/png", "image/jpeg"}
    accessor = document["accessors"][attributes["POSITION"]]
    assert len(accessor["min"]) == len(accessor["max"]) == 3


def test_the_mesh_depends_on_its_inputs(products: Any) -> None:
    def faces(glb: bytes) -> int:
        document, _ = _chunks(glb)
        index = document["meshes"][0]["primitives"][0]["indices"]
        count: int = document["accessors"][index]["count"]
        return count // 3

    assert 10_000 < faces(products["plain"][1]) <= 60_000
    assert faces(products["coarse"][1]) < faces(products["plain"][1])
    assert faces(products["few"][1]) <= 1000


def test_the_files_embed_the_graph(comfyui: ComfyUIClient) -> None:
    graph = flux_mesh()
    workflow = {"nodes": [1, "é"]}
    outputs = comfyui.run(graph, extra_data={"extra_pnginfo": {"workflow": workflow}})["outputs"]
    png = Image.open(io.BytesIO(comfyui.view(outputs["24"]["images"][0])))
    document, _ = _chunks(comfyui.view(outputs["33"]["3d"][0]))
    texts: Any = getattr(png, "text", {})
    assert json.loads(texts["prompt"])["33"]["class_type"] == "SaveGLB"
    assert json.loads(texts["workflow"]) == workflow
    extras = document["asset"].pop("extras")
    assert document["asset"] == {"version": "2.0", "generator": "ComfyUI"}
    assert extras == {key: texts[key] for key in ("prompt", "workflow")}


def test_the_alpha_channel_of_the_render_is_used(comfyui: ComfyUIClient) -> None:
    pixels = np.full((64, 64, 4), 200, np.uint8)
    pixels[..., 3] = 0
    pixels[16:48, 16:48, 3] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    name = comfyui.upload("cut.png", out.getvalue()).json()["name"]
    alpha = _pixels(_products(comfyui, flux_mesh(image=name))[0])[..., 3]
    assert alpha[100, 100] == 255
    assert alpha[:38].max() == 0


def test_a_trimesh_output_does_not_fit_save_glb(comfyui: ComfyUIClient) -> None:
    graph = flux_mesh()
    graph["33"]["inputs"]["mesh"] = ["32", 0]
    (error,) = comfyui.post(graph).json()["node_errors"]["33"]["errors"]
    assert error["type"] == "return_type_mismatch"


def test_an_unreadable_image_fails_the_run(comfyui: ComfyUIClient) -> None:
    comfyui.upload("fake.png", b"hello")
    status = comfyui.run(flux_mesh(image="fake.png"))["status"]
    event, data = status["messages"][-1]
    assert (event, data["node_type"]) == ("execution_error", "LoadImage")
    assert data["exception_type"] == "PIL.UnidentifiedImageError"


def test_the_cache_depends_on_the_content_of_the_image(comfyui: ComfyUIClient) -> None:
    def cached() -> int:
        messages = comfyui.run(flux_mesh(image="r.png"))["status"]["messages"]
        return len(messages[1][1]["nodes"])

    example = comfyui.view({"filename": "example.png", "type": "input"})
    comfyui.upload("r.png", example)
    counts = [cached(), cached()]
    comfyui.upload("r.png", example + b"\0", overwrite="true")
    counts.append(cached())
    assert counts[:2] == [0, 18]
    assert 0 < counts[2] < 18


def test_free_memory_drops_the_cache(comfyui: ComfyUIClient) -> None:
    comfyui.run(sleep())
    comfyui.call("POST", "/free", json={"free_memory": True})
    messages = comfyui.run(sleep())["status"]["messages"]
    assert messages[1][1]["nodes"] == []


def test_a_cached_run_names_the_earlier_files(emulator: Emulator, comfyui: ComfyUIClient) -> None:
    first = comfyui.run(flux_mesh())["outputs"]
    again = comfyui.run(flux_mesh())["outputs"]
    assert first == again


def test_primitive_nodes_can_feed_the_inputs(comfyui: ComfyUIClient) -> None:
    graph = flux_mesh()
    graph["40"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a jade frog"}}
    graph["42"] = {"class_type": "PrimitiveInt", "inputs": {"value": 7}}
    graph["34"]["inputs"] |= {"clip_l": ["40", 0], "t5xxl": ["40", 0]}
    graph["3"]["inputs"] |= {"noise_seed": ["42", 0], "steps": ["42", 0]}
    graph["32"]["inputs"]["steps"] = ["42", 0]
    assert sorted(comfyui.run(graph)["outputs"]) == ["24", "33"]


def test_unknown_node_types_give_placeholders_of_the_declared_types(start: Any) -> None:
    schemas = {
        "MakeAll": {
            "input": {"required": {}},
            "output": ["IMAGE", "MASK", "STRING", "INT", "MESH", "LATENT", "THING"],
            "output_node": False,
        },
        "ShowAll": {
            "input": {"required": {"image": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
            "output": [],
            "output_node": True,
        },
        "ShowMesh": {"input": {"required": {"m": ["MESH"]}}, "output": [], "output_node": True},
        "ShowText": {"input": {"required": {"t": ["STRING"]}}, "output": [], "output_node": True},
    }
    comfyui = ComfyUIClient(start(object_info=schemas).comfyui_url)
    graph = {
        "1": {"class_type": "MakeAll", "inputs": {}},
        "2": {"class_type": "ShowAll", "inputs": {"image": ["1", 0], "filename_prefix": "x/y"}},
        "3": {"class_type": "ShowMesh", "inputs": {"m": ["1", 4]}},
        "4": {"class_type": "ShowText", "inputs": {"t": ["1", 2]}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 5], "vae": ["6", 0]}},
        "6": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
    }
    outputs = comfyui.run(graph)["outputs"]
    assert outputs["2"]["images"][0] == {
        "filename": "y_00001_.png",
        "subfolder": "x",
        "type": "output",
    }
    assert _pixels(comfyui.view(outputs["2"]["images"][0])).shape[2] == 3
    _chunks(comfyui.view(outputs["3"]["3d"][0]))
    assert outputs["4"] == {"text": [""]}
    assert outputs["7"]["images"][0]["type"] == "temp"
    comfyui.http.close()


def test_unknown_node_types_pass_on_inputs_of_their_output_types(start: Any) -> None:
    links = {"positive": ["CONDITIONING"], "negative": ["CONDITIONING"], "image": ["IMAGE"]}
    schema = {
        "input": {"required": {**links, "strength": ["FLOAT", {}]}},
        "output": ["CONDITIONING", "CONDITIONING", "IMAGE"],
        "output_node": False,
    }
    comfyui = ComfyUIClient(start(object_info={"Apply": schema}).comfyui_url)
    graph = flux_mesh("a jade frog", size=128)
    graph["50"] = {
        "class_type": "Apply",
        "inputs": {
            "positive": ["34", 0],
            "negative": ["19", 0],
            "image": ["16", 0],
            "strength": 1,
        },
    }
    graph["3"]["inputs"] |= {"conditioning": ["50", 0], "neg_conditioning": ["50", 1]}
    graph["25"]["inputs"]["image"] = ["50", 2]
    with_apply = _products(comfyui, graph)[0]
    plain = _products(comfyui, flux_mesh("a jade frog", size=128))[0]
    assert (_pixels(with_apply) == _pixels(plain)).all()
    comfyui.http.close()
