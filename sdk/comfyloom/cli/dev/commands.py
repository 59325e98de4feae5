"""`comfyloom dev up | status | down | restart`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from comfyloom._dev.health import DevStatus
from comfyloom._dev.server import DevServer
from comfyloom._workflow.workflow import Workflow
from comfyloom.cli.dev.choice import choose_server_type
from comfyloom.cli.dev.show import facts, print_status
from comfyloom.cli.dev.warm import warm_up
from comfyloom.cli.dev.watching import watch as follow
from comfyloom.cli.main import CONTEXT
from comfyloom.cli.shared import (
    Duration,
    F,
    credentials_option,
    force_option,
    json_option,
    print_json,
)
from comfyloom.cli.view import progress_view
from comfyloom.cli.workflows import workflow_at_hand
from comfyloom.errors import MachineError
from comfyloom.settings import Settings

_START: Final = (
    click.argument("workflow", required=False),
    click.option(
        "--server-type",
        help="The kind of machine.  [default: a choice on a terminal, else medium; when restarted, "
        "as it was]",
    ),
    click.option(
        "--duration",
        "duration_s",
        type=Duration(),
        metavar="TIME",
        help="How long it may run at most, as 8h or 90m.  [default: 8h; when restarted, as it was]",
    ),
    click.option(
        "--idle-timeout",
        "idle_timeout_s",
        type=Duration(),
        metavar="TIME",
        help="How long it runs without use, as 30m.  [default: 30m; when restarted, as it was]",
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


@click.group(context_settings=CONTEXT)
def dev() -> None:
    """Start a machine once, run against it all day, stop it at night.

    Sessions and `comfyloom run` use the dev server of the project instead of launching a machine
    of their own, and renew its lease. Without use it ends by itself.
    """


@dev.command(context_settings=CONTEXT)
@_start_options
def up(workflow: str | None, credentials: str | None, **given: Any) -> None:
    """Start the dev server, unless it runs, and wait until it answers.

    WORKFLOW is what it is for, by the name of its command: which version to launch is looked up by
    it, and --warm runs it. It can be left out where only one is installed, or saved in the account.
    """
    settings = Settings.load(credentials=credentials)
    is_needed = settings.workflow_version_id is None or given["warm"]
    cls = workflow_at_hand(workflow, settings, is_needed=is_needed)
    if given["server_type"] is None and not DevServer(settings).is_remembered:
        given["server_type"] = choose_server_type(settings)
    _start(DevServer.up, settings, cls, **given)


@dev.command(context_settings=CONTEXT)
@_start_options
@force_option
def restart(workflow: str | None, credentials: str | None, **given: Any) -> None:
    """Stop the dev server and start another; what is not given is as it was."""
    settings = Settings.load(credentials=credentials)
    is_needed = workflow is not None or given["warm"]
    cls = workflow_at_hand(workflow, settings, is_needed=True) if is_needed else None
    _start(DevServer.restart, settings, cls, **given)


@dev.command(context_settings=CONTEXT)
@credentials_option
@json_option
def status(credentials: str | None, as_json: bool) -> None:
    """Say how the dev server is, what it costs and what runs on it.

    The exit code is 69 when it costs money and does not answer.
    """
    found = DevServer(Settings.load(credentials=credentials)).status()
    _print(found, as_json=as_json)
    if found.health in ("unreachable", "unknown"):
        raise MachineError(f"the dev server is {found.health}: {found.reason}")


@dev.command(context_settings=CONTEXT)
@force_option
@credentials_option
@json_option
def down(force: bool, credentials: str | None, as_json: bool) -> None:
    """Stop the dev server. While a prompt runs or waits it is refused, but with --force."""
    settings = Settings.load(credentials=credentials)
    with progress_view((), only_machine=True) as show:
        found = DevServer(settings, on_progress=show).down(force=force)
    _print(found, as_json=as_json)


def _start(
    how: Callable[..., DevStatus],
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
        found = how(server, workflow, **request)
    if warm and workflow is not None:
        warm_up(settings, workflow)
        found = server.status()
    if watch:
        follow(server)
        found = server.status()
    if as_json or not watch:
        _print(found, as_json=as_json)


def _print(found: DevStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(facts(found))
    else:
        print_status(found)
