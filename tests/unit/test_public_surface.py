"""The public surface: every type in a public signature can be imported from a public module."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import comfyloom
from comfyloom import errors, inputs, outputs, progress, settings, testing, types

PUBLIC_MODULES = (errors, inputs, outputs, progress, settings, testing, types)
EXPORTED = set(dir(comfyloom)).union(*(getattr(m, "__all__", dir(m)) for m in PUBLIC_MODULES))
CLASSES = [
    *(comfyloom.DevServer, comfyloom.Output, comfyloom.ImageOutput, comfyloom.MeshOutput),
    *(comfyloom.Result, comfyloom.Run, comfyloom.RunComfySession, comfyloom.Settings),
    *(comfyloom.Workflow, comfyloom.Progress, types.ComfyUI, types.DevStatus, types.Machine),
    *(types.StatusSnapshot, types.InputFile),
]
MADE_BY_THE_SDK = (comfyloom.Run, types.ComfyUI, types.Machine)
# Type variables and the like, which belong to a signature and not to a module.
OF_THE_SIGNATURE = {"Self", "ResultT", "ResultT_co", "T"}


def imported_names(module: str) -> dict[str, str]:
    """Return the module that each name of a module comes from, imports for checkers included."""
    source = inspect.getsource(importlib.import_module(module))
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            found[node.name] = module
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = module
    return found


def annotations(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Yield each public member of a class that has annotations, with their text."""
    for name, member in inspect.getmembers(cls):
        function = member.fget if isinstance(member, property) else member
        function = inspect.unwrap(getattr(function, "__func__", function))
        hints = getattr(function, "__annotations__", None)
        is_ours = str(getattr(function, "__module__", "")).startswith("comfyloom")
        if is_ours and isinstance(hints, dict) and (name == "__init__" or not name.startswith("_")):
            text = " ".join(str(hint) for key, hint in hints.items() if not key.startswith("_"))
            yield f"{function.__module__}:{name}", text


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_type_in_a_public_signature_is_exported(cls: type[Any]) -> None:
    missing = []
    for member, text in annotations(cls):
        if member.endswith(":__init__") and cls in MADE_BY_THE_SDK:
            continue
        homes = imported_names(member.partition(":")[0])
        words = set(re.findall(r"[A-Za-z_]\w*", text)) - OF_THE_SIGNATURE - EXPORTED
        ours = [word for word in words if homes.get(word, "").startswith("comfyloom")]
        missing += [f"{member}: {word}" for word in ours]
    assert not missing


def test_dir_has_every_name_once() -> None:
    comfyloom.RunComfySession  # noqa: B018 - a name that was used must not appear twice
    names = dir(comfyloom)
    assert len(names) == len(set(names))
    assert set(comfyloom.__all__) <= set(names)
    assert "__version__" in comfyloom.__all__


def test_help_fits_on_some_screens() -> None:
    assert len(pydoc.render_doc(comfyloom, renderer=pydoc.plaintext).splitlines()) < 650


def test_there_are_few_public_modules() -> None:
    folder = Path(comfyloom.__file__).parent
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    public = {name for name in found if not name.startswith("_")}
    assert len(public) <= 12


@pytest.mark.parametrize(
    "name",
    [
        *("AnimationOutput", "AudioOutput", "DevServer", "DevStatus", "FileOutput", "FileSource"),
        *("Graph", "ImageOutput", "ImageSource", "MeshOutput", "Output", "Progress", "Result"),
        *("Run", "RunComfySession", "Settings", "Stage", "VideoOutput", "Workflow", "chainable"),
        *("errors", "inputs", "outputs", "result_class", "workflow_class"),
    ],
)
def test_names_of_earlier_versions_can_still_be_imported(name: str) -> None:
    assert getattr(comfyloom, name).__doc__
    assert name in dir(comfyloom)
