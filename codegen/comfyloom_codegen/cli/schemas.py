"""`comfyloom codegen schemas SOURCE`: pin what a server says of the classes in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from comfyloom_codegen.cli.shared import (
    CONTEXT,
    json_option,
    project,
    say,
    say_json,
    workflows_option,
)

if TYPE_CHECKING:
    from comfyloom_codegen.schema_pins import Pins


@click.command(context_settings=CONTEXT)
@click.argument("source")
@workflows_option
@click.option("--credentials", metavar="FILE", help="A credentials file, for `runcomfy`.")
@json_option
def schemas(source: str, workflows: Path | None, credentials: str | None, *, as_json: bool) -> None:
    """Pin the schemas of the classes in use: exact types, ranges and choices.

    SOURCE is the URL of a ComfyUI server, a file with the answer of its /object_info, `emulator`,
    or `runcomfy` for the dev server. They are written into object_info.json beside the workflows.
    """
    import attrs

    from comfyloom_codegen.reading.files import SCHEMA_FILE, check_folder
    from comfyloom_codegen.reading.schemas import schemas_beside
    from comfyloom_codegen.schema_pins import classes_in_use, pin
    from comfyloom_codegen.writing import write_text

    folder = project(workflows or click.get_current_context().obj).workflows
    check_folder(folder)
    path = folder / SCHEMA_FILE
    pins = pin(classes_in_use(folder), _live(source, credentials), schemas_beside(path).raw)
    write_text(path, pins.text)
    if as_json:
        told = attrs.asdict(pins)
        say_json({"file": str(path), **told, "schemas": list(pins.schemas)})
    else:
        _print(path, pins)


def _live(source: str, credentials: str | None) -> Mapping[str, Any]:
    """Return what a server says of its classes, or what a file says that one did.

    Raises:
        InputFileError: There is no such file.
        WorkflowError: The file holds no such answer.
        ComfyloomError: The server does not tell.
    """
    from comfyloom.errors import InputFileError
    from comfyloom_codegen.problems import Findings
    from comfyloom_codegen.reading.schemas import read_object_info

    if "://" not in source and source not in ("runcomfy", "emulator"):
        if not Path(source).is_file():
            text = "a URL, a file, emulator or runcomfy is expected"
            raise InputFileError(f"there is no file {source}: {text}")
        findings = Findings(Path(source).name)
        found = read_object_info(Path(source), findings)
        findings.raise_for_errors()
        return found
    from comfyloom import RunComfySession, Settings

    settings = Settings.load(credentials=credentials) if source == "runcomfy" else None
    with RunComfySession(source, settings=settings, launch=source == "emulator") as session:
        # Any workflow will do: the dev server is there, or it is not.
        return session.server().object_info()


def _print(path: Path, pins: Pins) -> None:
    say(f"{path}: {len(pins.schemas)} classes pinned")
    for what, names in (
        ("new", pins.new),
        ("changed", pins.changed),
        ("no longer in use, removed", pins.removed),
    ):
        _say_names(what, names)
    for name in pins.unknown:
        kept = "what was pinned of it stays" if name in pins.schemas else "its types are guessed"
        say(f"warning: {name} is not known there; {kept}", err=True)


def _say_names(what: str, names: Iterable[str]) -> None:
    found = list(names)
    if found:
        say(f"  {what}: {', '.join(found)}")
