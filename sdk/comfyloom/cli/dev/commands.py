"""`comfyloom dev up | status | down | restart`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from comfyloom._dev.health import DevStatus
from comfyloom._dev.server import DevServer
from comfyloom._workflow.workflow import Workflow
from comfyloom.cli.dev.prompt_server_type import prompt_server_type
from comfyloom.cli.dev.show import print_status, status_as_json
from comfyloom.cli.dev.warm import warm_up
from comfyloom.cli.dev.watching import watch as follow
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT, SuggestingGroup
from comfyloom.cli.shared import (
    Duration,
    F,
    credentials_option,
    force_option,
    json_option,
)
from comfyloom.cli.view import progress_view
from comfyloom.cli.workflows import find_workflow
from comfyloom.errors import MachineError
from comfyloom.settings import Settings

_START: Final = (
    click.argument("workflow", required=False),
    click.option(
        "--server-type",
        help="The machine type.  [default: asked on a terminal, else medium; restart: as before]",
    ),
    click.option(
        "--duration",
        "duration_s",
        type=Duration(),
        metavar="TIME",
        help="The longest time it may run, such as 8h or 90m.  [default: 8h; restart: as before]",
    ),
    click.option(
        "--idle-timeout",
        "idle_timeout_s",
        type=Duration(),
        metavar="TIME",
        help="How long it runs without use, such as 30m.  [default: 30m; restart: as before]",
    ),
    click.option(
        "--warm", is_flag=True, help="Run the workflow once, so that its models are loaded."
    ),
    click.option(
        "--watch", is_flag=True, help="Then follow machine, queue and prompts until Ctrl-C."
    ),
    credentials_option,
    json_option,
)


def _start_options(function: F) -> F:
    for option in reversed(_START):
        function = option(function)
    return function


@click.group(cls=SuggestingGroup, context_settings=CONTEXT)
def dev() -> None:
    """Start a machine once, run against it all day, stop it at night.

    Sessions and `comfyloom run` use the project's dev server instead of launching their own
    machine, and renew its lease. If unused, it ends by itself.
    """


@dev.command(context_settings=CONTEXT)
@_start_options
def up(workflow: str | None, credentials: str | None, **given: Any) -> None:
    """Start the dev server, unless it is running, and wait until it answers.

    WORKFLOW is the command name of a workflow: its version is launched, and --warm runs it. It can
    be omitted if only one workflow is installed, or if only one is saved in the account.
    """
    settings = Settings.load(credentials=credentials)
    is_needed = settings.workflow_version_id is None or given["warm"]
    cls = find_workflow(workflow, settings, is_needed=is_needed)
    if given["server_type"] is None and not DevServer(settings).is_remembered:
        given["server_type"] = prompt_server_type(settings)
    _start(DevServer.up, settings, cls, **given)


@dev.command(context_settings=CONTEXT)
@_start_options
@force_option
def restart(workflow: str | None, credentials: str | None, **given: Any) -> None:
    """Stop the dev server and start another; options that are not given stay as before."""
    settings = Settings.load(credentials=credentials)
    is_needed = workflow is not None or given["warm"]
    cls = find_workflow(workflow, settings, is_needed=True) if is_needed else None
    _start(DevServer.restart, settings, cls, **given)


@dev.command(context_settings=CONTEXT)
@credentials_option
@json_option
def status(credentials: str | None, as_json: bool) -> None:
    """Show the health, the cost and the prompts of the dev server.

    The exit code is 69 if it costs money and does not answer, or if its state is unknown.
    """
    found = DevServer(Settings.load(credentials=credentials)).status()
    error = None
    if found.health in ("unreachable", "unknown"):
        error = MachineError(f"the dev server is {found.health}: {found.reason}")
    _print(found, as_json=as_json, error=error)
    if error is not None:
        raise error


@dev.command(context_settings=CONTEXT)
@force_option
@credentials_option
@json_option
def down(force: bool, credentials: str | None, as_json: bool) -> None:
    """Stop the dev server; while a prompt runs or waits, only with --force."""
    settings = Settings.load(credentials=credentials)
    with progress_view((), only_machine=True) as show:
        found = DevServer(settings, on_progress=show).down(force=force)
    _print(found, as_json=as_json)


def _start(
    method: Callable[..., DevStatus],
    settings: Settings,
    workflow: type[Workflow[Any]] | None,
    *,
    warm: bool,
    watch: bool,
    as_json: bool,
    **request: Any,
) -> None:
    with progress_view((), only_machine=True) as show:
        server = DevServer(settings, on_progress=show)
        found = method(server, workflow, **request)
    if warm and workflow is not None:
        warm_up(settings, workflow)
        found = server.status()
    if watch:
        follow(server)
        found = server.status()
    if as_json or not watch:
        _print(found, as_json=as_json)


def _print(found: DevStatus, *, as_json: bool, error: MachineError | None = None) -> None:
    if as_json:
        print_json(status_as_json(found), error)
    else:
        print_status(found)
