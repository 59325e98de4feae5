"""An emulator with a small graph, what was posted to it, and classes made here."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyloom.emulator import Emulator, Node
from comfyloom_codegen import generate
from option_lab import EMPTY_PICTURE, picture

COUNT = itertools.count()


@pytest.fixture
def posted(emulator: Emulator) -> Callable[[], list[dict[str, Any]]]:
    """Return the items of all ended prompts, as the server's history has them."""

    def read() -> list[dict[str, Any]]:
        import requests

        history = requests.get(f"{emulator.comfyui_url}/history", timeout=10).json()
        names = ("number", "id", "graph", "extra_data", "outputs")
        return [dict(zip(names, entry["prompt"], strict=True)) for entry in history.values()]

    return read


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    nodes = {"EmptyPicture": Node(run=picture)}
    with Emulator(object_info=EMPTY_PICTURE, nodes=nodes) as running:
        yield running


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that generates the class of a graph and its binding."""
    import importlib

    monkeypatch.syspath_prepend(str(tmp_path))

    def make(graph: dict[str, Any], binding: str) -> Any:
        source = tmp_path / f"source{next(COUNT)}"
        source.mkdir()
        (source / "it.json").write_text(json.dumps(graph), "utf-8")
        (source / "it.toml").write_text(binding, "utf-8")
        package = f"options_{next(COUNT)}"
        generate(source, tmp_path, package).raise_for_errors()
        importlib.invalidate_caches()
        return importlib.import_module(package).ItWorkflow

    return make
