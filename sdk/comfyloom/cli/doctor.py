"""`comfyloom doctor`: what is set, what works, and what to do about the rest."""

from __future__ import annotations

from typing import Final

import attrs
import click

from comfyloom.cli.checkup import Finding, check_up
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import credentials_option, json_option, print_json, print_table
from comfyloom.settings import Survey

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
    """Look at settings, account, workflows, dev server and machines, and say what to do.

    Nothing is launched, changed or stopped. The exit code is that of the first error.
    """
    survey = Survey.of(credentials=credentials)
    findings: list[Finding] = []
    if as_json:
        findings += check_up(survey)
        settings = {
            name: {"value": value, "source": survey.sources[name]}
            for name, value in survey.plain().items()
        }
        rows = [attrs.asdict(finding) for finding in findings]
        print_json({"settings": settings, "findings": rows})
    else:
        _print_settings(survey)
        for finding in check_up(survey):
            findings.append(finding)
            _print(finding)
    return next((finding.code for finding in findings if finding.state == "error"), 0)


def _print_settings(survey: Survey) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", no_wrap=True, style="dim")
    for name, value in survey.shown().items():
        table.add_row(name, Text(value), Text(survey.sources[name]))
    print_table(table)
    click.echo()


def _print(finding: Finding) -> None:
    sign, colour = _SIGNS[finding.state]
    click.echo(f"{click.style(sign, fg=colour)} {finding.check}: {finding.message}")
    if finding.advice:
        click.echo(f"  → {finding.advice}")
