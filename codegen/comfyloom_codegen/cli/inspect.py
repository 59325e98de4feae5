"""`comfyloom codegen inspect FILE`: what a workflow file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from comfyloom_codegen.cli.shared import CONTEXT, json_option, say, say_json
from comfyloom_codegen.problems import printable

if TYPE_CHECKING:
    from comfyloom_codegen.scaffold.inspecting import InspectedInput, Inspection

_LONGEST: Final = 60


@click.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def inspect(file: Path, *, as_json: bool) -> None:
    """Show the nodes of a workflow, their inputs and links, and what to beware of."""
    import attrs

    from comfyloom_codegen.problems import Findings
    from comfyloom_codegen.reading.files import only_source
    from comfyloom_codegen.reading.schemas import schemas_beside
    from comfyloom_codegen.scaffold import inspecting

    source = only_source(file)
    findings = Findings(source.file, list(source.problems))
    found = inspecting.inspect(source, schemas_beside(file), findings)
    if as_json:
        say_json(attrs.asdict(found))
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
        heads = [node.id, node.class_type, node.title if node.title != node.class_type else ""]
        rows = [[each.name, _shown(each), each.public] for each in node.inputs]
        if node.result:
            rows.append(["", "", f"⇒ {node.result}"])
        for number, row in enumerate(rows or [["", "", ""]]):
            cells = [*(heads if number == 0 else ["", "", ""]), *row]
            styles = ["bold", "", "dim", "", "cyan" if row[1].startswith("←") else "", "green"]
            table.add_row(*(Text(printable(c), s) for c, s in zip(cells, styles, strict=True)))
    print_table(table)
    say(f"\n{found.file}: {len(found.nodes)} nodes → {found.workflow or 'no class'}")
    for hazard in found.hazards:
        say(f"! {hazard}")


def _shown(each: InspectedInput) -> str:
    if each.link:
        return f"← {each.link}"
    text = json.dumps(each.value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
