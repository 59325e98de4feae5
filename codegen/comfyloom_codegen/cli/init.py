"""`comfyloom codegen init FILE`: write an initial binding."""

from __future__ import annotations

from pathlib import Path

import click

from comfyloom_codegen.cli.shared import CONTEXT, echo


@click.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite an existing binding.")
@click.option("--print", "only_print", is_flag=True, help="Print the binding, write nothing.")
def init(file: Path, *, force: bool, only_print: bool) -> None:
    """Write an initial binding for a workflow, with guesses at its inputs and results."""
    from comfyloom.errors import OutputNotWritable
    from comfyloom_codegen.reading.files import require_source
    from comfyloom_codegen.reading.schemas import schemas_beside
    from comfyloom_codegen.scaffold.binding import initial_binding
    from comfyloom_codegen.writing import write_text

    text = initial_binding(require_source(file), schemas_beside(file))
    target = file.with_suffix(".toml")
    if only_print:
        click.echo(text, nl=False)
        return
    if target.exists() and not force:
        reason = f"{target} exists already: --force overwrites it, --print only prints"
        raise OutputNotWritable(reason, path=str(target))
    write_text(target, text)
    inputs, results = text.count("\n[inputs."), text.count("\n[results.")
    echo(f"{target} written: {inputs} inputs, {results} results. Next: comfyloom codegen")
