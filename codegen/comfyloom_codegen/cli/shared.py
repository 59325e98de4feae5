"""What the commands share: the options that say where things are, and safe printing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from comfyloom_codegen.problems import printable
from comfyloom_codegen.project import Project

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

workflows_option = click.option(
    "--workflows",
    type=click.Path(path_type=Path),
    help="Folder of workflow files, their bindings and object_info.json.  [default: workflows]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


def project(
    workflows: Path | None = None, out: Path | None = None, package: str | None = None
) -> Project:
    """Return where things are: as given, else as pyproject.toml has it, else the defaults."""
    return Project.read(Path.cwd()).or_else(workflows, out, package)


def say(text: str, *, err: bool = False) -> None:
    """Print a text; a terminal that does not know a letter of a title shall not end the command."""
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    lines = "\n".join(map(printable, text.split("\n")))
    click.echo(lines.encode(encoding, "replace").decode(encoding), err=err)


def say_json(value: object) -> None:
    """Print a value for programs."""
    import json

    say(json.dumps(value, indent=2))
