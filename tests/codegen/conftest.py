"""Fixtures: folders of workflow files, generated and imported."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codegen.workspace import GeneratePackage, MakeWorkspace, Workspace
from comfyloom_codegen import Report

_COUNT = itertools.count()


@pytest.fixture
def make_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWorkspace:
    """Return a function that writes workflow files into a new folder."""

    def make(files: Mapping[str, object]) -> Workspace:
        number = next(_COUNT)
        package = f"made_{os.getpid()}_{number}"
        workspace = Workspace(tmp_path / f"w{number}", tmp_path / "out", package)
        workspace.write(files)
        monkeypatch.syspath_prepend(str(workspace.out))
        return workspace

    return make


@pytest.fixture
def generate_package(make_workspace: MakeWorkspace) -> GeneratePackage:
    """Return a function that generates from workflow files and imports the package."""

    def make(files: Mapping[str, object]) -> tuple[Report, Any]:
        workspace = make_workspace(files)
        report = workspace.generate()
        return report, workspace.module()

    return make
