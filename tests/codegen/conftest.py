"""Folders of workflow files, generated and imported."""

from __future__ import annotations

import importlib
import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from comfyloom_codegen import Report, generate

_COUNT = itertools.count()


@attrs.frozen
class Made:
    """One folder of workflow files and the package generated from it."""

    workflows: Path
    out: Path
    package: str

    def write(self, files: Mapping[str, object]) -> None:
        self.workflows.mkdir(exist_ok=True)
        for name, content in files.items():
            raw = content if isinstance(content, str | bytes) else json.dumps(content)
            data = raw.encode("utf-8") if isinstance(raw, str) else raw
            (self.workflows / name).write_bytes(data)

    def generate(self, **options: bool) -> Report:
        return generate(self.workflows, self.out, self.package, **options)

    def module(self) -> Any:
        importlib.invalidate_caches()
        return importlib.import_module(self.package)

    def text(self, file: str) -> str:
        return (self.out / self.package / file).read_text(encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        folder = self.out / self.package
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Return a function that writes workflow files into a fresh folder."""

    def make(files: Mapping[str, object]) -> Made:
        number = next(_COUNT)
        package = f"made_{os.getpid()}_{number}"
        made = Made(tmp_path / f"w{number}", tmp_path / "out", package)
        made.write(files)
        monkeypatch.syspath_prepend(str(made.out))
        return made

    return make


@pytest.fixture
def made(folder: Callable[..., Made]) -> Callable[..., tuple[Report, Any]]:
    """Return a function that generates workflow files and imports the package."""

    def make(files: Mapping[str, object]) -> tuple[Report, Any]:
        here = folder(files)
        report = here.generate()
        importlib.invalidate_caches()
        return report, here.module()

    return make
