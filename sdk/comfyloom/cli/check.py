"""`comfyloom check WORKFLOW`: whether a workflow can run on a server, without running it."""

from __future__ import annotations

from typing import Any

import attrs
import click

from comfyloom._backends.resolve import EMULATOR, RUNCOMFY
from comfyloom._session.session import RunComfySession
from comfyloom._workflow.compatibility import Incompatibility, compare_workflow
from comfyloom._workflow.node_schemas import Schemas
from comfyloom._workflow.workflow import Workflow
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import credentials_option, json_option
from comfyloom.cli.workflows import named_or_only_workflow
from comfyloom.errors import WorkflowError
from comfyloom.settings import Settings


@click.command(context_settings=CONTEXT)
@click.argument("workflow")
@click.option(
    "--target",
    metavar="TARGET",
    help="runcomfy (its dev server, the default), emulator, or the URL of a ComfyUI server.",
)
@credentials_option
@json_option
def check(workflow: str, target: str | None, credentials: str | None, as_json: bool) -> None:
    """Check that a server has the node types, models and inputs that a workflow needs.

    Nothing is run or launched: without a target the dev server is asked. The exit code is 65 if
    the workflow cannot run on the server.
    """
    cls = named_or_only_workflow(workflow)
    assert cls is not None  # a name was given, and an unknown name raises
    schemas = _server_schemas(cls, target, credentials)
    found = compare_workflow(cls, schemas)
    fatal = [incompatibility for incompatibility in found if incompatibility.is_fatal]
    error = None
    if fatal:
        count = "1 incompatibility" if len(fatal) == 1 else f"{len(fatal)} incompatibilities"
        error = WorkflowError(f"{workflow} cannot run on this server: {count}")
    if as_json:
        rows = [
            attrs.asdict(incompatibility) | {"fatal": incompatibility.is_fatal}
            for incompatibility in found
        ]
        print_json({"workflow": workflow, "fits": not fatal, "findings": rows}, error)
    else:
        _print(cls, found, fatal)
    if error is not None:
        raise error


def _server_schemas(
    cls: type[Workflow[Any]], target: str | None, credentials: str | None
) -> Schemas:
    """Return the schemas of the server's node types.

    Raises:
        MachineError: There is no dev server.
        ComfyloomError: The server did not return them.
    """
    is_account = target in (None, RUNCOMFY)
    settings = Settings.load(credentials=credentials) if is_account else None
    with RunComfySession(target, settings=settings, launch=target == EMULATOR) as session:
        return Schemas(session.server(cls).object_info())


def _print(
    cls: type[Workflow[Any]], found: list[Incompatibility], fatal: list[Incompatibility]
) -> None:
    for incompatibility in found:
        sign = (
            click.style("✗", fg="red") if incompatibility.is_fatal else click.style("·", dim=True)
        )
        click.echo(f"{sign} {incompatibility}")
        if incompatibility.advice:
            click.echo(f"  → {incompatibility.advice}")
    if not fatal:
        nodes = len(cls.template_graph())
        sign = click.style("✓", fg="green")
        click.echo(
            f"{sign} {cls.__workflow__.command} can run on this server: all {nodes} nodes are "
            "available"
        )
