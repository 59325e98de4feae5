"""A saver that gets a batch gives many pictures."""

from __future__ import annotations

from typing import Any

import pytest

from comfyloom._workflow.node_schemas import Schemas
from comfyloom_codegen.modelling import unbound
from comfyloom_codegen.modelling.batches import is_batch
from comfyloom_codegen.scaffold.guessing import guess


def graph(**changes: Any) -> dict[str, Any]:
    """Return a usual graph: latent, sampler, decoder, saver."""
    found: dict[str, Any] = {
        "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "2": node("CLIPTextEncode", text="x"),
        "3": node("KSampler", latent_image=["1", 0], positive=["2", 0], seed=1),
        "4": node("VAEDecode", samples=["3", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="x"),
    }
    return found | changes


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


BATCH = node("EmptyLatentImage", width=64, height=64, batch_size=4)
REFERENCES = node("ImageBatch", image1=["8", 0], image2=["9", 0])
TYPES = {
    "CLIPVisionEncode": {"input": {}, "output": ["CLIP_VISION_OUTPUT"]},
    "CLIPTextEncode": {"input": {}, "output": ["CONDITIONING"]},
}


@pytest.mark.parametrize(
    ("changes", "many"),
    [
        ({}, False),
        ({"1": BATCH}, True),
        ({"1": node("RepeatLatentBatch", samples=["7", 0], amount=3)}, True),
        ({"1": node("RepeatLatentBatch", samples=["7", 0], amount=1), "7": BATCH}, True),
        ({"4": REFERENCES}, True),
        ({"4": node("VHS_LoadVideo", video="a.mp4")}, True),
        ({"4": node("ImageFromBatch", image=["7", 0], length=1), "7": BATCH}, False),
        ({"4": node("ImageFromBatch", image=["7", 0], length=2)}, True),
        # A batch of references ends in a conditioning.
        ({"2": node("CLIPVisionEncode", image=["7", 0]), "7": REFERENCES}, False),
        ({"1": node("EmptyLatentImage", batch_size=["6", 0])}, False),
        ({"1": node("EmptyLatentImage", batch_size=True)}, False),
        ({"1": node("Loop", samples=["4", 0])}, False),
    ],
)
def test_a_batch_is_recognised(changes: dict[str, Any], many: bool) -> None:
    made = graph(**changes)
    assert is_batch(made, "5", Schemas(TYPES)) is many
    assert is_batch(made, "5", Schemas({})) is many
    (result,) = (each for each in unbound.results(made, Schemas({})) if each.spec.node == "5")
    assert result.spec.many is many


def test_a_guess_says_so() -> None:
    ((name, result),) = guess(graph(**{"1": BATCH}), Schemas({})).results
    assert (name, result.spec.many) == ("images", True)
    ((name, result),) = guess(graph(), Schemas({})).results
    assert (name, result.spec.many) == ("image", False)


def test_only_pictures_are_many() -> None:
    made = graph(**{"1": BATCH, "5": node("SaveVideo", video=["4", 0])})
    (result,) = unbound.results(made, Schemas({}))
    assert not result.spec.many


def loaders(**changes: Any) -> dict[str, Any]:
    """Return a graph whose three loaders feed one batch, by two nodes."""
    found: dict[str, Any] = {
        "1": node("LoadImage", image="a.png"),
        "2": node("LoadImage", image="b.png"),
        "3": node("LoadImage", image="c.png"),
        "4": node("ImageBatch", image1=["3", 0], image2=["1", 0]),
        "5": node("ImageBatch", image1=["4", 0], image2=["2", 0]),
        "6": node("SaveImage", images=["5", 0], filename_prefix="x"),
    }
    return found | changes


def test_loaders_of_one_batch_are_one_input() -> None:
    found = guess(loaders(), Schemas({}))
    inputs = [(each.name, each.kind, each.targets) for each in found.inputs]
    expected = (("3", "image"), ("1", "image"), ("2", "image"))
    assert inputs == [("input_images", "images", expected)]


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({"7": node("PreviewImage", images=["2", 0])}, ["31"]),  # 2 is used on its own, too
        ({"2": node("EmptyImage", width=8)}, ["31"]),
        ({"4": node("ImageBatch", image1=["5", 0], image2=["1", 0])}, []),  # a cycle
        ({"5": node("ImageBatch", image1=["9", 0], image2=["2", 0])}, ["31"]),
        ({"5": node("ImageBatch", image1=["2", 0], image2=["2", 0])}, ["31"]),
        ({"4": node("ImageBatch", image1=["3", 0])}, ["32"]),
        ({"4": node("Blend", image1=["3", 0], image2=["1", 0])}, []),
    ],
)
def test_only_loaders_that_do_nothing_else_are_joined(
    changes: dict[str, Any], together: list[str]
) -> None:
    found = guess(loaders(**changes), Schemas({})).inputs
    lists = ["".join(node for node, _ in each.targets) for each in found if each.kind == "images"]
    assert lists == together
    singles = {each.targets[0][0] for each in found if each.kind == "image"}
    assert singles == {"1", "2", "3"} - set("".join(together)) - (set("2") & set(_empty(changes)))


def _empty(changes: dict[str, Any]) -> list[str]:
    return [name for name, each in changes.items() if each["class_type"] == "EmptyImage"]


@pytest.mark.parametrize(
    ("class_type", "name"),
    [
        ("VHS_LoadImages", "directory"),
        ("LoadImageDataSetFromFolder", "folder"),
        ("LoadImageSetFromFolderNode", "folder"),
    ],
)
def test_a_folder_of_pictures_is_an_input(class_type: str, name: str) -> None:
    made = graph(**{"4": node(class_type, **{name: "shots"})})
    found = {each.name: each.kind for each in guess(made, Schemas({})).inputs}
    assert found["input_images"] == "folder"
