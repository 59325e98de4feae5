"""Shared by the commands: the location options, and safe output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from comfyloom_codegen.problems import escape_unprintable
from comfyloom_codegen.project import Project

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

workflows_option = click.option(
    "--workflows",
    type=click.Path(path_type=Path),
    help="Folder of workflow files, their bindings and object_info.json.  [default: workflows]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def resolve_project(
    workflows: Path | None = None, out: Path | None = None, package: str | None = None
) -> Project:
    """Return the project: the given values, else those of pyproject.toml, else the defaults."""
    return Project.read(Path.cwd()).with_overrides(workflows, out, package)


def echo(text: str, *, err: bool = False) -> None:
    """Print text; characters that the terminal cannot encode are replaced."""
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    lines = "\n".join(map(escape_unprintable, text.split("\n")))
    click.echo(lines.encode(encoding, "replace").decode(encoding), err=err)


def echo_json(facts: Mapping[str, object], error: Exception | None = None) -> None:
    """Print the JSON document of a command; `error` is why it failed, and raised afterwards."""
    from comfyloom.cli.json_output import print_json

    print_json(facts, error)
