"""Folders of workflow files, the packages generated from them, and facts about both."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from comfyloom_codegen import Report, generate


@attrs.frozen
class Workspace:
    """A folder of workflow files, and the package generated from it."""

    workflows: Path
    out: Path
    package: str

    @property
    def package_folder(self) -> Path:
        return self.out / self.package

    def write(self, files: Mapping[str, object]) -> None:
        """Write workflow files; what is neither text nor bytes is written as JSON."""
        self.workflows.mkdir(exist_ok=True)
        for name, content in files.items():
            raw = content if isinstance(content, str | bytes) else json.dumps(content)
            data = raw.encode("utf-8") if isinstance(raw, str) else raw
            (self.workflows / name).write_bytes(data)

    def generate(self, *, check: bool = False) -> Report:
        return generate(self.workflows, self.out, self.package, check=check)

    def module(self) -> Any:
        """Import the generated package."""
        importlib.invalidate_caches()
        return importlib.import_module(self.package)

    def text(self, file: str) -> str:
        return (self.package_folder / file).read_text(encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        folder = self.package_folder
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


MakeWorkspace: TypeAlias = Callable[[Mapping[str, object]], Workspace]
"""The fixture `make_workspace`: writes workflow files into a new folder."""
GeneratePackage: TypeAlias = Callable[[Mapping[str, object]], tuple[Report, Any]]
"""The fixture `generate_package`: generates from workflow files and imports the package."""


def problem_text(report: Report) -> str:
    """Return all problems of a report, one on a line."""
    return "\n".join(map(str, report.problems))


def workflow_classes(package: Any) -> dict[str, Any]:
    """Return the workflow classes of a package by the name of their graph file."""
    found = [getattr(package, name) for name in package.__all__]
    return {cls.__workflow__.graph: cls for cls in found if hasattr(cls, "__workflow__")}


def only_class(package: Any) -> Any:
    """Return the workflow class of a package that has one."""
    (cls,) = workflow_classes(package).values()
    return cls


def input_specs(package: Any) -> dict[str, Any]:
    """Return the inputs of the only workflow of a package, by name."""
    return {spec.name: spec for spec in only_class(package).__workflow__.inputs}


def result_names(package: Any) -> list[str]:
    """Return the names of the results of the only workflow of a package."""
    return [spec.name for spec in only_class(package).__workflow__.outputs]


def is_same_json(one: object, other: object) -> bool:
    """Return whether two values are the same JSON, with types and order."""
    return json.dumps(one) == json.dumps(other)
