"""`comfyloom codegen binding-schema`: the JSON schema of binding files, for editors."""

from __future__ import annotations

import click

from comfyloom_codegen.cli.shared import CONTEXT


@click.command("binding-schema", context_settings=CONTEXT)
def binding_schema() -> None:
    """Print the JSON schema of binding files.

    Saved as binding.schema.json beside the bindings, it lets an editor complete and check them:
    their first line is then `#:schema ./binding.schema.json`.
    """
    import importlib.resources

    file = importlib.resources.files("comfyloom_codegen.bindings").joinpath("binding.schema.json")
    click.echo(file.read_text("utf-8"), nl=False)
