"""`comfyloom doctor`: the settings, what works, and what to do about everything else."""

from __future__ import annotations

from typing import Final

import attrs
import click

from comfyloom.cli.checkup import Diagnostic, run_checks
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import credentials_option, json_option, print_table
from comfyloom.errors import ComfyloomError
from comfyloom.settings import SettingsLoader

_SIGNS: Final = {
    "ok": ("✓", "green"),
    "note": ("·", "blue"),
    "warning": ("!", "yellow"),
    "error": ("✗", "red"),
}


@click.command(context_settings=CONTEXT)
@credentials_option
@json_option
def doctor(credentials: str | None, as_json: bool) -> int:
    """Check settings, account, workflows, dev server and machines, and give advice.

    Nothing is launched, changed or stopped. The exit code is the code of the first error.
    """
    loader = SettingsLoader.of(credentials=credentials)
    diagnostics: list[Diagnostic] = []
    if as_json:
        diagnostics += run_checks(loader)
        settings = {
            name: {"value": value, "source": loader.sources[name]}
            for name, value in loader.json_values().items()
        }
        shown = attrs.filters.exclude("error")
        rows = [attrs.asdict(diagnostic, filter=shown) for diagnostic in diagnostics]
        first = next((each for each in diagnostics if each.state == "error"), None)
        error = None if first is None else first.error or ComfyloomError(first.message)
        print_json({"settings": settings, "findings": rows}, error)
    else:
        _print_settings(loader)
        for diagnostic in run_checks(loader):
            diagnostics.append(diagnostic)
            _print(diagnostic)
    return next((diagnostic.code for diagnostic in diagnostics if diagnostic.state == "error"), 0)


def _print_settings(loader: SettingsLoader) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", no_wrap=True, style="dim")
    for name, value in loader.display_values().items():
        table.add_row(name, Text(value), Text(loader.sources[name]))
    print_table(table)
    click.echo()


def _print(diagnostic: Diagnostic) -> None:
    sign, colour = _SIGNS[diagnostic.state]
    click.echo(f"{click.style(sign, fg=colour)} {diagnostic.check}: {diagnostic.message}")
    if diagnostic.advice:
        click.echo(f"  → {diagnostic.advice}")
