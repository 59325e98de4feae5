"""`comfyloom check WORKFLOW`: whether a workflow can run on a server, without running it."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import click

from comfyloom._backends.resolve import EMULATOR, RUNCOMFY
from comfyloom._session.session import RunComfySession
from comfyloom._workflow.compatibility import Incompatibility, compare
from comfyloom._workflow.graph_view import GraphView
from comfyloom._workflow.node_schemas import Schemas, pinned
from comfyloom._workflow.workflow import Workflow
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import credentials_option, json_option, print_json
from comfyloom.cli.workflows import only_workflow
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
    """Compare a workflow with what a server has: node classes, models, inputs.

    Nothing is run and nothing is launched: without a target the dev server is asked. The exit code
    is 65 when the workflow cannot run there.
    """
    cls = only_workflow(workflow)
    assert cls is not None  # there is one of that name
    live = _live(cls, target, credentials)
    found = compare(
        GraphView(cls.template_graph(), live), pinned(_package(cls)), _free(cls)
    )
    fatal = [incompatibility for incompatibility in found if incompatibility.is_fatal]
    if as_json:
        rows = [
            attrs.asdict(incompatibility) | {"fatal": incompatibility.is_fatal}
            for incompatibility in found
        ]
        print_json({"workflow": workflow, "fits": not fatal, "findings": rows})
    else:
        _print(cls, found, fatal)
    if fatal:
        things = "one thing stands" if len(fatal) == 1 else f"{len(fatal)} things stand"
        raise WorkflowError(f"{workflow} cannot run there: {things} in its way")


def _live(cls: type[Workflow[Any]], target: str | None, credentials: str | None) -> Schemas:
    """Return what the server has.

    Raises:
        MachineError: There is no dev server.
        ComfyloomError: The server does not tell.
    """
    is_account = target in (None, RUNCOMFY)
    settings = Settings.load(credentials=credentials) if is_account else None
    with RunComfySession(target, settings=settings, launch=target == EMULATOR) as session:
        return Schemas(session.server(cls).object_info())


def _package(cls: type[Workflow[Any]]) -> str:
    return sys.modules[cls.__module__].__package__ or ""


def _free(cls: type[Workflow[Any]]) -> frozenset[tuple[str, str]]:
    """Return the inputs that a caller must set: what the file has there does not matter."""
    return frozenset(
        (target.node, target.input)
        for spec in cls.__workflow__.inputs
        if spec.required or spec.is_file
        for target in spec.targets
    )


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
            f"{sign} {cls.__workflow__.command} can run there: its {nodes} nodes are all there"
        )
