"""`comfyloom run WORKFLOW`: run a workflow and write its results into a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from comfyloom._backends.resolve import EMULATOR, RUNCOMFY, TargetLike
from comfyloom._dev.account import is_emulator
from comfyloom._session.session import RUN_TIMEOUT_S, RunComfySession
from comfyloom._session.staging import check_writable
from comfyloom._workflow.run_options import RunOptions
from comfyloom._workflow.run_plan import plan_of
from comfyloom._workflow.validation import validate
from comfyloom._workflow.workflow import Result, Workflow
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT, SuggestingGroup
from comfyloom.cli.options import build, option
from comfyloom.cli.view import progress_view
from comfyloom.cli.workflows import workflow_classes
from comfyloom.errors import ComfyloomError
from comfyloom.settings import Settings, load_comfyui_settings

EMULATED = (
    "This was the emulator: it drew the images itself, no GPU was used, nothing was billed.\n"
    "Times and costs above are what it emulates."
)


class WorkflowGroup(SuggestingGroup):
    """A command for each workflow class that is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all workflows."""
        return sorted(workflow_classes())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of a workflow, None if no workflow has that name."""
        workflow = workflow_classes().get(cmd_name)
        return None if workflow is None else _command(cmd_name, workflow)


@click.group(cls=WorkflowGroup, context_settings=CONTEXT)
def run() -> None:
    """Run a workflow and write its results into a folder."""


_SHARED = (
    click.Option(
        ["--out"],
        type=click.Path(path_type=Path),
        default=Path(),
        help="The folder for the results; created if it is missing.  [default: here]",
    ),
    click.Option(
        ["--target"],
        metavar="TARGET",
        help="runcomfy (the default), emulator, or the URL of a ComfyUI server.",
    ),
    click.Option(["--server-type"], help="The machine type: medium, large, extra-large, …"),
    click.Option(
        ["--launch/--no-launch"],
        default=True,
        help="Whether to launch a machine when no dev server fits.  [default: launch]",
    ),
    click.Option(["--credentials"], metavar="FILE", help="A credentials file."),
    click.Option(
        ["--timeout"],
        type=click.FloatRange(min=0, min_open=True),
        default=RUN_TIMEOUT_S,
        show_default=True,
        help="Seconds after which the run is cancelled.",
    ),
    click.Option(
        ["--only"],
        metavar="RESULT",
        multiple=True,
        help="A result that is wanted; only what it needs runs.  [default: all results]",
    ),
    click.Option(["--keep-all"], is_flag=True, help="Run also nodes that no result needs."),
    click.Option(
        ["--fresh"],
        is_flag=True,
        help="Let the run work again if the server has deleted a result that it had cached.",
    ),
    click.Option(["--front"], is_flag=True, help="Run before all that wait on the server."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."),
)


def _command(name: str, workflow: type[Workflow[Any]]) -> click.Command:
    options = [option(workflow, spec) for spec in workflow.__workflow__.inputs]
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
    launch: bool,
    credentials: str | None,
    timeout: float,
    only: tuple[str, ...],
    keep_all: bool,
    fresh: bool,
    front: bool,
    as_json: bool,
    **given: Any,
) -> None:
    job = build(workflow, given)
    # Checked first, so that a wrong value never launches a machine.
    keep_all = keep_all or load_comfyui_settings().keep_all
    options: RunOptions = {"outputs": only or None, "keep_all": keep_all, "front": front}
    options["fresh"] = fresh
    plan = plan_of(job, outputs=only or None, keep_all=keep_all)
    plan.read_files()
    validate(job, plan.nodes)
    check_writable(out, [spec.file for spec in workflow.__workflow__.outputs if spec.file])
    is_account = target in (None, RUNCOMFY)
    settings = Settings.load(credentials=credentials) if is_account else None
    is_emulated = target == EMULATOR or (
        settings is not None and is_emulator(settings.api_base_url)
    )
    summary = CostSummary(is_emulated=is_emulated)
    try:
        result = run_workflow(
            job,
            summary,
            out=out,
            target=target,
            timeout=timeout,
            options=options,
            session_options={"settings": settings, "server_type": server_type, "launch": launch},
        )
    except ComfyloomError as error:
        if as_json:
            print_json(summary.as_json(), error)
        raise
    if as_json:
        report = {
            "workflow": workflow.__workflow__.command,
            **_result_as_json(job, result),
            **summary.as_json(),
        }
        print_json(report)
    else:
        print_result(job, result)


@attrs.define
class CostSummary:
    """The machine time and cost of a command, reported however it ends."""

    is_emulated: bool = False
    session: RunComfySession | None = None

    def attach(self, session: RunComfySession) -> RunComfySession:
        """Summarize this session, and return it."""
        self.session = session
        return session

    def as_json(self) -> dict[str, Any]:
        """Return the summary as values for JSON; `machine` is None if none was used."""
        machine = self.session.machine if self.session else None
        cost = self.session.cost if self.session else Decimal(0)
        facts = None
        if machine is not None:
            facts = {
                "server_id": machine.server_id,
                "server_type": machine.server_type,
                "borrowed": machine.is_borrowed,
                "started_in_s": round(machine.started_in_s, 3),
                "billed_s": round(machine.billed_s, 3),
            }
        return {
            "emulated": self.is_emulated,
            "machine": facts,
            "cost_usd": None if cost is None else str(cost),
        }

    def print(self) -> None:
        """Print the summary to stderr, human-readable."""
        lines = self.session.summary if self.session else []
        for line in lines:
            click.echo(line, err=True)
        if lines and self.is_emulated:
            click.echo(EMULATED, err=True)


def run_workflow(
    job: Workflow[Any],
    summary: CostSummary,
    *,
    out: Path,
    target: TargetLike,
    timeout: float = RUN_TIMEOUT_S,
    options: RunOptions | None = None,
    session_options: Mapping[str, Any] | None = None,
) -> Result:
    """Run a workflow with progress on stderr; a launched machine is stopped afterwards.

    Args:
        job: The workflow.
        summary: Filled in, and printed however the run ends.
        out: The folder for the results.
        target: Where to run; see `RunComfySession`.
        timeout: Seconds after which the run is cancelled.
        options: More arguments of `RunComfySession.run`.
        session_options: More arguments of `RunComfySession`.

    Raises:
        ComfyloomError: The run failed.
    """
    try:
        with (
            progress_view(job.__workflow__.stages) as show,
            summary.attach(
                RunComfySession(target, on_progress=show, **(session_options or {}))
            ) as session,
        ):
            result: Result = session.run(job, timeout=timeout, out_dir=out, **(options or {}))
            return result
    finally:
        summary.print()


def print_result(job: Workflow[Any], result: Result) -> None:
    """Print the paths of the files and the other outputs, human-readable."""
    for found in _files(job, result).values():
        for path in found if isinstance(found, list) else [found]:
            click.echo(_short_path(path))
    for name, value in _values(job, result).items():
        click.echo(f"{name}: {_printable(value)}")
    seed = "" if result.seed is None else f"seed {result.seed}, "
    click.echo(f"{seed}run {result.seconds:.1f} s", err=True)


def _result_as_json(job: Workflow[Any], result: Result) -> dict[str, Any]:
    return {
        "prompt_id": result.prompt_id,
        "seed": result.seed,
        "files": {
            name: [str(path) for path in found] if isinstance(found, list) else str(found)
            for name, found in _files(job, result).items()
        },
        "values": _values(job, result),
        "seconds": round(result.seconds, 3),
    }


def _files(job: Workflow[Any], result: Result) -> dict[str, Path | list[Path]]:
    found: dict[str, Path | list[Path]] = {}
    for spec in job.__workflow__.outputs:
        given = getattr(result, spec.name)
        if spec.is_file and given:
            found[spec.name] = [each.path for each in given] if spec.many else given.path
    return found


def _values(job: Workflow[Any], result: Result) -> dict[str, Any]:
    return {s.name: getattr(result, s.name) for s in job.__workflow__.outputs if not s.is_file}


def _printable(value: object) -> str:
    """Return a value as text without control characters, which a terminal might execute."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text
    )


def _short_path(path: Path) -> str:
    """Return a path relative to the current folder if it is below it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was deleted
        return str(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
