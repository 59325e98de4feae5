"""`comfyloom run WORKFLOW`: run a workflow and write its results into a folder."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from comfyloom.cli.main import CONTEXT
from comfyloom.cli.options import build, option
from comfyloom.cli.view import progress_view
from comfyloom.cli.workflows import workflow_classes
from comfyloom.session import RUN_TIMEOUT_S, RunComfySession
from comfyloom.spool import check_writable
from comfyloom.targets import TargetLike
from comfyloom.workflow import Result, Workflow


class WorkflowGroup(click.Group):
    """A command for each workflow class that is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all workflows."""
        return sorted(workflow_classes())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of a workflow, None if there is none of that name."""
        workflow = workflow_classes().get(cmd_name)
        return None if workflow is None else _command(cmd_name, workflow)


@click.group(cls=WorkflowGroup, context_settings=CONTEXT)
def run() -> None:
    """Run a workflow and write its results into a folder."""


_SHARED = (
    click.Option(
        ["--out"],
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(),
        help="The folder for the results; made if it is not there.  [default: here]",
    ),
    click.Option(
        ["--target"],
        metavar="TARGET",
        help="runcomfy (the default), emulator, or the URL of a ComfyUI server.",
    ),
    click.Option(["--server-type"], help="The kind of machine: medium, large, extra-large, …"),
    click.Option(
        ["--timeout"],
        type=click.FloatRange(min=0, min_open=True),
        default=RUN_TIMEOUT_S,
        show_default=True,
        help="Seconds the run may take; then it is cancelled.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."),
)


def _command(name: str, workflow: type[Workflow[Any]]) -> click.Command:
    options = [option(workflow, spec) for spec in workflow.spec_.inputs]
    return click.Command(
        name,
        params=[*options, *_SHARED],
        callback=partial(_run, workflow),
        help=workflow.__doc__,
        context_settings=CONTEXT,
    )


def _run(
    workflow: type[Workflow[Any]],
    *,
    out: Path,
    target: str | None,
    server_type: str | None,
    timeout: float,
    as_json: bool,
    **given: Any,
) -> None:
    job = build(workflow, given)
    # Everything that can be wrong here is found before a machine costs money.
    job.read_files_()
    job.to_graph()
    check_writable(out)
    done = run_workflow(job, out=out, target=target, server_type=server_type, timeout=timeout)
    if as_json:
        click.echo(json.dumps(done.as_json(), indent=2))
    else:
        done.print()


@attrs.frozen(kw_only=True)
class Done:
    """A result and what it took."""

    workflow: Workflow[Any]
    result: Result
    session: RunComfySession

    @property
    def files(self) -> dict[str, Path]:
        """The path of each result file, by the name of the result."""
        names = [spec.name for spec in self.workflow.spec_.outputs]
        found = {name: getattr(self.result, name) for name in names}
        return {name: output.path for name, output in found.items() if output is not None}

    def as_json(self) -> dict[str, Any]:
        """Return all there is to say, for programs."""
        machine, cost = self.session.machine, self.session.cost
        return {
            "workflow": self.workflow.spec_.command,
            "prompt_id": self.result.prompt_id,
            "seed": self.result.seed,
            "files": {name: str(path) for name, path in self.files.items()},
            "seconds": round(self.result.seconds, 3),
            "machine": None
            if machine is None
            else {
                "server_id": machine.server_id,
                "server_type": machine.server_type,
                "started_in_s": round(machine.started_in_s, 3),
                "billed_s": round(machine.billed_s, 3),
            },
            "cost_usd": None if cost is None else str(cost),
        }

    def print(self) -> None:
        """Say it to people."""
        for path in self.files.values():
            click.echo(_shown(path))
        machine, cost = self.session.machine, self.session.cost
        click.echo(f"seed {self.result.seed}, run {self.result.seconds:.1f} s", err=True)
        if machine is not None:
            price = "price not known" if cost is None else f"{cost} USD"
            click.echo(
                f"machine {machine.server_id} ({machine.server_type}): started in "
                f"{machine.started_in_s:.0f} s, billed {machine.billed_s:.0f} s, {price}; stopped",
                err=True,
            )


def run_workflow(
    job: Workflow[Any],
    *,
    out: Path,
    target: TargetLike,
    server_type: str | None = None,
    timeout: float = RUN_TIMEOUT_S,
    emulator_options: dict[str, Any] | None = None,
) -> Done:
    """Run a workflow with progress on the terminal; the machine is stopped when this returns."""
    with (
        progress_view(job.spec_.stages) as show,
        RunComfySession(
            target,
            server_type=server_type,
            on_progress=show,
            emulator_options=emulator_options,
        ) as session,
    ):
        result = session.run(job, timeout=timeout, out_dir=out)
    return Done(workflow=job, result=result, session=session)


def _shown(path: Path) -> str:
    """Return a path as short as it can be written from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
