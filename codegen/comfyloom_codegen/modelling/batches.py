"""Whether a saver gets several pictures at once: it then gives several files."""

from __future__ import annotations

from collections import Counter
from typing import Final

from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom._workflow.node_schemas import Schemas
from comfyloom_codegen.reading.graphs import unwrapped

# The types of what is batched; a batch of anything else ends in a sampler.
_BATCHED: Final = frozenset({"IMAGE", "LATENT", "MASK"})
# Inputs of nodes without a schema that take one of these types.
_NAMES: Final = frozenset(
    {"images", "image", "image1", "image2", "samples", "latent", "latent_image", "pixels", "mask"}
)
_COUNTS: Final = ("batch_size", "amount", "batch_count", "num_images")
_MAKERS: Final = frozenset(
    {
        *("ImageBatch", "BatchImagesNode", "LatentBatch", "ImageListToImageBatch"),
        *("LoadImageDataSetFromFolder", "LoadImageTextDataSetFromFolder", "GetVideoComponents"),
        *("LoadImageSetFromFolderNode", "LoadImageTextSetFromFolderNode"),
        *("VHS_LoadVideo", "VHS_LoadVideoPath", "VHS_LoadImages", "VHS_LoadImagesPath"),
    }
)
_JOINERS: Final = frozenset({"ImageBatch", "BatchImagesNode", "ImageBatchMulti"})
_TAKERS: Final = frozenset({"ImageFromBatch", "LatentFromBatch"})


def is_batch(graph: Graph, node: str, schemas: Schemas) -> bool:
    """Return whether a node gets a batch of pictures, as far as the file tells."""
    waiting, seen = [*_sources(graph, node, schemas)], {node}
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        class_type = str(graph[source]["class_type"])
        inputs = graph[source]["inputs"]
        if class_type in _TAKERS:
            if _count(inputs.get("length", 1)) > 1:
                return True
        elif class_type in _MAKERS or any(_count(inputs.get(name)) > 1 for name in _COUNTS):
            return True
        else:
            waiting += _sources(graph, source, schemas)
    return False


def loaders_of_batches(graph: Graph) -> list[tuple[str, ...]]:
    """Return the nodes that each load one picture of a batch and do nothing else, in order."""
    consumers = Counter(
        value[0]
        for entry in graph.values()
        for value in entry["inputs"].values()
        if is_link_shaped(value)
    )
    found: list[tuple[str, ...]] = []
    for node in graph:
        loaders = _loaders_behind(graph, node) if _is_joiner(graph, node) else ()
        if len(loaders) > 1 and all(consumers[loader] == 1 for loader in loaders):
            found.append(loaders)
    return [each for each in found if not any(set(each) < set(other) for other in found)]


def _loaders_behind(graph: Graph, end: str) -> tuple[str, ...]:
    """Return the loaders behind a batch; none if it gets anything else, too."""
    found: list[str] = []
    waiting, seen = [end], set[str]()
    while waiting:
        node = waiting.pop()
        if _is_joiner(graph, node) and node not in seen:
            seen.add(node)
            links = [each for each in graph[node]["inputs"].values() if is_link_shaped(each)]
            waiting += [str(link[0]) for link in reversed(links)]
        elif node in graph and graph[node]["class_type"] == "LoadImage":
            found.append(node)
        else:
            return ()
    return tuple(found)


def _is_joiner(graph: Graph, node: str) -> bool:
    return node in graph and graph[node]["class_type"] in _JOINERS


def _sources(graph: Graph, node: str, schemas: Schemas) -> list[str]:
    """Return the nodes that give a node pictures or latents."""
    found: list[str] = []
    for name, value in graph[node]["inputs"].items():
        if is_link_shaped(value) and value[0] in graph:
            schema = schemas.node(str(graph[value[0]]["class_type"]))
            outputs: tuple[str, ...] = schema.outputs if schema is not None else ()
            kind = next(iter(outputs[value[1] : value[1] + 1]), "") if value[1] >= 0 else ""
            if kind in _BATCHED or (not kind and name in _NAMES):
                found.append(value[0])
    return found


def _count(value: object) -> int:
    plain = unwrapped(value)
    return plain if isinstance(plain, int) and not isinstance(plain, bool) else 0
