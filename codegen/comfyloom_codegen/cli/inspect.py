"""`comfyloom codegen inspect FILE`: show the contents of a workflow file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from comfyloom_codegen.cli.shared import CONTEXT, echo, echo_json, json_option
from comfyloom_codegen.problems import escape_unprintable

if TYPE_CHECKING:
    from comfyloom_codegen.scaffold.inspecting import InspectedInput, Inspection

_MAX_VALUE_LENGTH: Final = 60


@click.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def inspect(file: Path, *, as_json: bool) -> None:
    """Show the nodes of a workflow, their inputs and links, and hazards."""
    import attrs

    from comfyloom_codegen.problems import ProblemLog
    from comfyloom_codegen.reading.files import require_source
    from comfyloom_codegen.reading.schemas import schemas_beside
    from comfyloom_codegen.scaffold import inspecting

    source = require_source(file)
    problems = ProblemLog(source.file, list(source.problems))
    found = inspecting.inspect(source, schemas_beside(file), problems)
    if as_json:
        echo_json(attrs.asdict(found))
    else:
        _print(found)


def _print(found: Inspection) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from comfyloom.cli.shared import print_table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("id", "class", "title", "input", "value or link", "public name"):
        table.add_column(name, overflow="fold")
    for node in found.nodes:
        node_cells = [node.id, node.class_type, node.title if node.title != node.class_type else ""]
        rows = [[each.name, _shown(each), each.public] for each in node.inputs]
        if node.result:
            rows.append(["", "", f"⇒ {node.result}"])
        for index, row in enumerate(rows or [["", "", ""]]):
            cells = [*(node_cells if index == 0 else ["", "", ""]), *row]
            styles = ["bold", "", "dim", "", "cyan" if row[1].startswith("←") else "", "green"]
            table.add_row(*map(Text, map(escape_unprintable, cells), styles))
    print_table(table)
    echo(f"\n{found.file}: {len(found.nodes)} nodes → {found.workflow or 'no class'}")
    for hazard in found.hazards:
        echo(f"! {hazard}")


def _shown(each: InspectedInput) -> str:
    if each.link:
        return f"← {each.link}"
    text = json.dumps(each.value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"
