"""The command `comfyloom codegen`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from comfyloom_codegen.problems import printable

if TYPE_CHECKING:
    from comfyloom_codegen.report import Outcome, Report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--workflows",
    type=click.Path(path_type=Path),
    default="workflows",
    show_default=True,
    help="Folder of workflow files in API format, their bindings and object_info.json.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="generated",
    show_default=True,
    help="Folder that holds the generated package.",
)
@click.option(
    "--package",
    default="comfyloom_workflows",
    show_default=True,
    help="Name of the generated package.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if anything would change.")
@click.option("--force", is_flag=True, help="Print again even what is unchanged by its head.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def codegen(
    workflows: Path, out: Path, package: str, *, check: bool, force: bool, as_json: bool
) -> None:
    """Turn workflow files into typed Python classes."""
    from comfyloom_codegen.pipeline import generate

    report = generate(workflows, out, package, check=check, force=force)
    if as_json:
        _print_json(report)
    else:
        _print_lines(report, package, check=check)
    for warning in report.warnings:
        _say(str(warning), err=True)
    report.raise_for_errors()
    if check and report.drift:
        sys.exit(1)


def _print_lines(report: Report, package: str, *, check: bool) -> None:
    if check:
        for drift in report.drift:
            _say(f"{package}/{drift}")
        if not report.drift and not report.errors:
            _say("up to date")
        return
    for outcome in report.outcomes:
        _say(_line(outcome))
    for drift in report.drift:
        if drift.kind == "orphaned":
            _say(f"{package}/{drift.file} removed")


def _line(outcome: Outcome) -> str:
    if outcome.state == "failed":
        return f"{outcome.file} → nothing  failed"
    inputs, results = _count(outcome.inputs, "input"), _count(outcome.results, "result")
    return f"{outcome.file} → {outcome.workflow}  {inputs}, {results}  {outcome.state}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_json(report: Report) -> None:
    import json

    import attrs

    _say(json.dumps(attrs.asdict(report), indent=2))


def _say(text: str, *, err: bool = False) -> None:
    # A terminal that does not know a letter of a title shall not end the command.
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    lines = "\n".join(map(printable, text.split("\n")))
    click.echo(lines.encode(encoding, "replace").decode(encoding), err=err)
