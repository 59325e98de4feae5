"""`comfyloom codegen init FILE`: a binding to start from."""

from __future__ import annotations

from pathlib import Path

import click

from comfyloom_codegen.cli.shared import CONTEXT, say


@click.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a binding that is there.")
@click.option("--print", "only_print", is_flag=True, help="Print it, and write nothing.")
def init(file: Path, *, force: bool, only_print: bool) -> None:
    """Write a binding for a workflow, with guesses at what callers set and get."""
    from comfyloom.errors import OutputNotWritable
    from comfyloom_codegen.reading.files import only_source
    from comfyloom_codegen.reading.schemas import schemas_beside
    from comfyloom_codegen.scaffold.binding import starting_binding
    from comfyloom_codegen.writing import write_text

    text = starting_binding(only_source(file), schemas_beside(file))
    target = file.with_suffix(".toml")
    if only_print:
        click.echo(text, nl=False)
        return
    if target.exists() and not force:
        reason = f"{target} is there already: --force writes over it, --print shows another"
        raise OutputNotWritable(reason, path=str(target))
    write_text(target, text)
    inputs, results = text.count("\n[inputs."), text.count("\n[results.")
    say(f"{target} written: {inputs} inputs, {results} results. Read it, then: comfyloom codegen")
