"""`comfyloom codegen`: turn workflow files into typed classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from comfyloom_codegen.cli.init import init
from comfyloom_codegen.cli.inspect import inspect
from comfyloom_codegen.cli.schema import binding_schema
from comfyloom_codegen.cli.schemas import schemas
from comfyloom_codegen.cli.shared import (
    CONTEXT,
    echo,
    echo_json,
    json_option,
    resolve_project,
    workflows_option,
)

if TYPE_CHECKING:
    from comfyloom_codegen.exports.changes import Change
    from comfyloom_codegen.project import Project
    from comfyloom_codegen.report import Outcome, Report


@click.group(invoke_without_command=True, context_settings=CONTEXT)
@workflows_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder that holds the generated package.  [default: generated]",
)
@click.option("--package", help="Name of the generated package.  [default: comfyloom_workflows]")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if anything would change.")
@click.option("--force", is_flag=True, help="Also regenerate modules that are current.")
@click.option("--verify", is_flag=True, help="Then import and type-check the package.")
@json_option
@click.pass_context
def codegen(
    context: click.Context,
    workflows: Path | None,
    out: Path | None,
    package: str | None,
    *,
    check: bool,
    force: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Turn workflow files into typed Python classes.

    Defaults come from [tool.comfyloom.codegen] in the nearest pyproject.toml.
    """
    if context.invoked_subcommand is not None:
        given: dict[str, object] = {"--check": check, "--force": force, "--verify": verify}
        given |= {"--json": as_json, "--out": out, "--package": package}
        for option, value in given.items():
            if value:
                name = context.invoked_subcommand
                raise click.UsageError(f"{option} belongs after {name}, if {name} supports it")
        context.obj = workflows
        return
    paths = resolve_project(workflows, out, package)
    _generate(paths, check=check, force=force, verify=verify, as_json=as_json)


codegen.add_command(binding_schema)
codegen.add_command(init)
codegen.add_command(inspect)
codegen.add_command(schemas)


def _generate(paths: Project, *, check: bool, force: bool, verify: bool, as_json: bool) -> None:
    import attrs

    from comfyloom.errors import ComfyloomError, WorkflowError
    from comfyloom_codegen.pipeline import generate

    report = generate(paths.workflows, paths.out, paths.package, check=check, force=force)
    differs = check and bool(report.drift)
    if not as_json:
        for line in _lines(report, paths.package, check=check):
            echo(line)
    for warning in report.warnings:
        echo(str(warning), err=True)
    try:
        if verify and not differs and any(outcome.workflow for outcome in report.outcomes):
            _verify(paths, report, as_json=as_json)
        report.raise_for_errors()
    except WorkflowError as error:
        if as_json:
            echo_json(attrs.asdict(report), error)
        raise
    if as_json:
        text = f"{paths.package} is not up to date: run comfyloom codegen"
        echo_json(attrs.asdict(report), ComfyloomError(text) if differs else None)
    if differs:
        raise click.exceptions.Exit(1)


def _verify(paths: Project, report: Report, *, as_json: bool) -> None:
    """Verify the generated package.

    Raises:
        WorkflowError: A check failed; the message includes the errors of the report.
    """
    from comfyloom.errors import WorkflowError
    from comfyloom_codegen.verifying import verify

    try:
        for line in verify(paths.out, paths.package):
            echo(line, err=as_json)
    except WorkflowError as error:
        raise WorkflowError("\n".join([*map(str, report.errors), str(error)])) from None


def _lines(report: Report, package: str, *, check: bool) -> Iterator[str]:
    if check:
        yield from (f"{package}/{drift}" for drift in report.drift)
        if not report.drift and not report.errors:
            yield "up to date"
    else:
        yield from (_line(each) for each in report.outcomes if each.state != "skipped")
        for drift in report.drift:
            if drift.kind == "orphaned":
                yield f"{package}/{drift.file} removed"
    yield from _export_changes(report, check=check)


def _export_changes(report: Report, *, check: bool) -> Iterator[str]:
    """Yield the effects of new exports on bindings and public names."""
    if report.followed:
        yield ""
        yield f"selectors {'to rewrite' if check else 'rewritten'} for a new export:"
        yield from (f"  {line}" for line in report.followed)
    if report.changes:
        yield ""
        yield "public names changed by a new export:"
        yield from (f"  {line}" for line in _changes(report))


def _changes(report: Report) -> Iterator[str]:
    """Yield one line for each change, and one for each file with names that only moved."""
    moved: defaultdict[str, list[Change]] = defaultdict(list)
    for change in report.changes:
        if change.kind == "moved":
            moved[change.file].append(change)
        else:
            yield str(change)
    for file, found in moved.items():
        ids = dict.fromkeys(f"{old} → {new}" for change in found for old, new in change.moves)
        names = ", ".join(change.name for change in found)
        yield f"{file}: unchanged, with new node ids ({', '.join(ids)}): {names}"


def _line(outcome: Outcome) -> str:
    if outcome.state == "failed":
        return f"{outcome.file} → nothing  failed"
    inputs, results = _count(outcome.inputs, "input"), _count(outcome.results, "result")
    return f"{outcome.file} → {outcome.workflow}  {inputs}, {results}  {outcome.state}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
