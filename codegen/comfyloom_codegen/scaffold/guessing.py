"""Guess the public inputs and results of a workflow, for an initial binding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from comfyloom._workflow.graph import Graph, is_link_shaped
from comfyloom._workflow.input_spec import Kind
from comfyloom._workflow.node_schemas import Schemas
from comfyloom_codegen.bindings.naming import is_writable
from comfyloom_codegen.bindings.selectors import Address
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.batches import loaders_of_batches
from comfyloom_codegen.modelling.docs import humanised
from comfyloom_codegen.modelling.model import InputField, ResultField
from comfyloom_codegen.names import RESULT_NAMES, WORKFLOW_NAMES, distinct, python_name
from comfyloom_codegen.problems import ProblemLog

# Names of conditioning inputs of samplers, in ComfyUI and in custom node packs.
_POSITIVE: Final = ("positive", "conditioning", "pos_conditioning")
_NEGATIVE: Final = ("negative", "neg_conditioning")
# Names of text inputs of encoders, and of nodes that only hold text.
_TEXTS: Final = frozenset(
    {"text", "clip_l", "clip_g", "t5xxl", "llama", "text_g", "text_l", "prompt", "value", "string"}
    | {"positive_prompt", "negative_prompt", "text_positive", "text_negative", "bert", "mt5xl"}
)
# Inputs that get a short name if the workflow has only one of them.
_WELL_KNOWN: Final = (
    *("steps", "cfg", "guidance", "denoise", "width", "height", "batch_size", "strength"),
    *("length", "fps", "frame_rate", "scale_by", "seconds"),
)
_FILES: Final[dict[Kind, str]] = {
    "image": "input_image",
    "mask": "mask",
    "audio": "input_audio",
    "video": "input_video",
    "file": "input_file",
    "images": "input_images",
    "folder": "input_images",
}
_DOCS: Final = {
    "prompt": "What the picture shows",
    "negative_prompt": "What the picture must not show",
    "seed": "Seed; without one, each run draws its own and reports it in the result",
}


@attrs.frozen(kw_only=True)
class GuessedInput:
    """A value that callers probably set: its name, its kind and its target node inputs."""

    name: str
    kind: Kind
    targets: tuple[Address, ...]
    required: bool = False
    default: object = None
    doc: str = ""
    default_name: str = ""


@attrs.frozen(kw_only=True)
class Guess:
    """The inputs and results that callers probably use, and the remaining fields."""

    inputs: tuple[GuessedInput, ...]
    results: tuple[tuple[str, ResultField], ...]
    rest: tuple[InputField, ...]


def guess(graph: Graph, schemas: Schemas) -> Guess:
    """Return a guess at the public names of a workflow."""
    fields = [each for each in unbound.fields(graph, schemas, ProblemLog("")) if _is_nameable(each)]
    found = [*_files(graph, fields), *_prompts(graph, fields), *_seeds(fields)]
    taken = {address for each in found for address in each.targets}
    found += _well_known([field for field in fields if _address(field) not in taken])
    taken = {address for each in found for address in each.targets}
    return Guess(
        inputs=tuple(_named(found)),
        results=tuple(_results(unbound.results(graph, schemas), graph)),
        rest=tuple(field for field in fields if _address(field) not in taken),
    )


def _is_nameable(field: InputField) -> bool:
    """Return whether a binding file can name the input of a field."""
    node, name = _address(field)
    return bool(name) and is_writable(node) and is_writable(name)


def _address(field: InputField) -> Address:
    (target,) = field.spec.targets
    return target.node, target.input


def _named(found: Sequence[GuessedInput]) -> Iterator[GuessedInput]:
    # Guesses that share a name all get their default names.
    candidates = [(each.name, each.default_name) for each in found]
    names = distinct(candidates, lambda text: python_name(text, reserved=WORKFLOW_NAMES))
    for each, name in zip(found, names, strict=True):
        yield attrs.evolve(each, name=name)


def _files(graph: Graph, fields: Iterable[InputField]) -> Iterator[GuessedInput]:
    files = {_address(field): field for field in fields if field.spec.is_file}
    batches = [tuple((node, "image") for node in nodes) for nodes in loaders_of_batches(graph)]
    for targets in batches:
        if all(target in files for target in targets):
            first, *_ = (files.pop(target) for target in targets)
            yield GuessedInput(
                name=_FILES["images"],
                kind="images",
                targets=targets,
                required=True,
                default_name=f"{first.name}s",
            )
    times = Counter(field.spec.kind for field in files.values())
    for field in files.values():
        kind = field.spec.kind
        name = _FILES[kind] if times[kind] == 1 else field.name
        targets = (_address(field),)
        yield GuessedInput(
            name=name, kind=kind, targets=targets, required=True, default_name=field.name
        )


def _prompts(graph: Graph, fields: Iterable[InputField]) -> Iterator[GuessedInput]:
    texts = {_address(field): field for field in fields if field.spec.kind == "text"}
    positive = _encoders(graph, texts, _POSITIVE)
    negative = [node for node in _encoders(graph, texts, _NEGATIVE) if node not in positive]
    taken: set[Address] = set()
    for name, nodes in (("prompt", positive), ("negative_prompt", negative)):
        for node in nodes:
            # Two encoders may share one text input.
            targets = tuple(each for each in _texts_of(graph, texts, node) if each not in taken)
            taken |= set(targets)
            if not targets:
                continue
            yield GuessedInput(
                name=name,
                kind="text",
                targets=targets,
                required=name == "prompt",
                default=texts[targets[0]].default,
                doc=_DOCS[name],
                default_name=texts[targets[0]].name,
            )


def _encoders(graph: Graph, texts: Iterable[Address], names: Sequence[str]) -> list[str]:
    """Return the nodes with text inputs that are closest to the inputs with these names."""
    known = set(texts)
    found: dict[str, None] = {}
    seen: set[str] = set()
    nodes = [
        value[0]
        for entry in graph.values()
        for name, value in entry["inputs"].items()
        if name in names and is_link_shaped(value)
    ]
    while nodes:
        node = nodes.pop(0)
        if node in seen or node not in graph:
            continue
        seen.add(node)
        if any(_texts_of(graph, known, node)):
            found[node] = None
        else:
            nodes += _sources(graph, node)
    return list(found)


def _sources(graph: Graph, node: str) -> list[str]:
    return [value[0] for value in graph[node]["inputs"].values() if is_link_shaped(value)]


def _texts_of(graph: Graph, texts: Iterable[Address], node: str) -> Iterator[Address]:
    """Yield the text inputs of a node, and those of nodes that feed text into it."""
    known = set(texts)
    for name, value in graph[node]["inputs"].items():
        if name not in _TEXTS:
            continue
        if (node, name) in known:
            yield node, name
        elif is_link_shaped(value) and value[0] in graph:
            feeding = [(value[0], each) for each in graph[value[0]]["inputs"] if each in _TEXTS]
            yield from (address for address in feeding if address in known)


def _seeds(fields: Iterable[InputField]) -> Iterator[GuessedInput]:
    targets = tuple(_address(field) for field in fields if field.spec.kind == "seed")
    if targets:
        doc = _DOCS["seed"]
        yield GuessedInput(name="seed", kind="seed", targets=targets, doc=doc, default_name="seed")


def _well_known(fields: Sequence[InputField]) -> Iterator[GuessedInput]:
    for name in _WELL_KNOWN:
        for field in fields:
            address = _address(field)
            if address[1] == name and field.spec.kind in ("integer", "number"):
                yield GuessedInput(
                    name=name,
                    kind=field.spec.kind,
                    targets=(address,),
                    default=field.default,
                    doc=humanised(name).capitalize(),
                    default_name=field.name,
                )


def _results(results: Sequence[ResultField], graph: Graph) -> Iterator[tuple[str, ResultField]]:
    """Yield the saved results, and previews of kinds that are not saved."""
    saved = {r.spec.kind for r in results if not _is_preview(r, graph)}
    results = [r for r in results if not _is_preview(r, graph) or r.spec.kind not in saved]
    times = Counter(result.spec.kind for result in results)
    words = [f"{each.spec.kind}s" if each.spec.many else each.spec.kind for each in results]
    candidates = [
        (word if times[result.spec.kind] == 1 else result.name, result.name)
        for word, result in zip(words, results, strict=True)
    ]
    names = distinct(candidates, lambda text: python_name(text, reserved=RESULT_NAMES))
    yield from zip(names, results, strict=True)


def _is_preview(result: ResultField, graph: Graph) -> bool:
    return "preview" in graph[result.spec.node]["class_type"].lower()
