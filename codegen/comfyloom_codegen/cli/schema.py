"""`comfyloom codegen binding-schema`: print the JSON schema of binding files, for editors."""

from __future__ import annotations

import click

from comfyloom_codegen.cli.shared import CONTEXT


@click.command("binding-schema", context_settings=CONTEXT)
def binding_schema() -> None:
    """Print the JSON schema of binding files.

    Save it as binding.schema.json beside the bindings and start each binding with the line
    `#:schema ./binding.schema.json`: an editor can then complete and check them.
    """
    import importlib.resources

    file = importlib.resources.files("comfyloom_codegen.bindings").joinpath("binding.schema.json")
    click.echo(file.read_text("utf-8"), nl=False)
