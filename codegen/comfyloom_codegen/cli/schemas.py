"""`comfyloom codegen schemas SOURCE`: pin the schemas of the node types in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from comfyloom_codegen.cli.shared import (
    CONTEXT,
    echo,
    echo_json,
    json_option,
    resolve_project,
    workflows_option,
)

if TYPE_CHECKING:
    from comfyloom_codegen.schema_pins import PinUpdate


@click.command(context_settings=CONTEXT)
@click.argument("source")
@workflows_option
@click.option("--credentials", metavar="FILE", help="A credentials file, for `runcomfy`.")
@json_option
def schemas(source: str, workflows: Path | None, credentials: str | None, *, as_json: bool) -> None:
    """Pin the schemas of the node types in use: exact types, ranges and choices.

    SOURCE is the URL of a ComfyUI server, a file with its /object_info response, `emulator`, or
    `runcomfy` for the dev server. The schemas are written to object_info.json beside the workflows.
    """
    import attrs

    from comfyloom_codegen.reading.files import SCHEMA_FILE, check_folder
    from comfyloom_codegen.reading.schemas import schemas_beside
    from comfyloom_codegen.schema_pins import classes_in_use, update_pins
    from comfyloom_codegen.writing import write_text

    folder = resolve_project(workflows or click.get_current_context().obj).workflows
    check_folder(folder)
    path = folder / SCHEMA_FILE
    update = update_pins(
        classes_in_use(folder), _server_schemas(source, credentials), schemas_beside(path).raw
    )
    write_text(path, update.text)
    if as_json:
        names = {**attrs.asdict(update), "schemas": list(update.schemas)}
        echo_json({"file": str(path), **names})
    else:
        _print(path, update)


def _server_schemas(source: str, credentials: str | None) -> Mapping[str, Any]:
    """Return the schemas of a server, or of a file with its /object_info response, by node type.

    Raises:
        InputFileError: The file does not exist.
        WorkflowError: The file is not an /object_info response.
        ComfyloomError: The server cannot be reached, or refuses.
    """
    from comfyloom.errors import InputFileError
    from comfyloom_codegen.problems import ProblemLog
    from comfyloom_codegen.reading.schemas import read_object_info

    if "://" not in source and source not in ("runcomfy", "emulator"):
        if not Path(source).is_file():
            text = "expected a URL, a file, `emulator` or `runcomfy`"
            raise InputFileError(f"there is no file {source}: {text}")
        problems = ProblemLog(Path(source).name)
        found = read_object_info(Path(source), problems)
        problems.raise_for_errors()
        return found
    from comfyloom import RunComfySession, Settings

    settings = Settings.load(credentials=credentials) if source == "runcomfy" else None
    with RunComfySession(source, settings=settings, launch=source == "emulator") as session:
        return session.server().object_info()


def _print(path: Path, update: PinUpdate) -> None:
    echo(f"{path}: {len(update.schemas)} node types pinned")
    for what, names in (
        ("new", update.new),
        ("changed", update.changed),
        ("no longer in use, removed", update.removed),
    ):
        _echo_names(what, names)
    for name in update.unknown:
        effect = "its pinned schema is kept" if name in update.schemas else "its types are guessed"
        echo(f"warning: the server does not know {name}; {effect}", err=True)


def _echo_names(what: str, names: Iterable[str]) -> None:
    found = list(names)
    if found:
        echo(f"  {what}: {', '.join(found)}")
