"""`--watch`: a live view of machine, queue and prompts until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from comfyloom._dev.server import DevServer
from comfyloom._dev.watch import StatusSnapshot
from comfyloom.cli.dev.show import COLOURS, pairs
from comfyloom.cli.shared import console, is_interactive, span, usd

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SIGNS: Final = {
    "running": "[cyan]▶[/]",
    "waiting": "[dim]…[/]",
    "done": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "cancelled": "[yellow]-[/]",
    "gone": "[yellow]?[/]",
}


def watch(server: DevServer) -> None:
    """Follow the dev server until Ctrl-C, then ask whether to stop it."""
    out = console(stderr=True)
    try:
        if out.is_terminal:
            _show_live(server, out)
        else:
            _print_changes(server)
    except KeyboardInterrupt:
        _offer_stop(server)


def _show_live(server: DevServer, out: Console) -> None:
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        for snapshot in server.watch():
            live.update(render(snapshot), refresh=True)


def render(snapshot: StatusSnapshot) -> RenderableType:
    """Return the live view of a snapshot: the machine, then its prompts."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    details = Table.grid(padding=(0, 2))
    details.add_column(style="dim", no_wrap=True)
    details.add_column(overflow="fold")
    for name, value in pairs(snapshot.status).items():
        if name != "prompts":
            style = COLOURS.get(snapshot.status.health, "") if name == "health" else ""
            details.add_row(name, Text(value, style=style))
    prompts = Table.grid(padding=(0, 1))
    for prompt in snapshot.prompts:
        elapsed = span(prompt.seconds) if prompt.seconds else ""
        prompts.add_row(_SIGNS[prompt.state], prompt.prompt_id, prompt.state, elapsed)
    rest = prompts if snapshot.prompts else Text("no prompts", style="dim")
    return Group(details, "", rest, Text("Ctrl-C ends the watch", style="dim"))


def _print_changes(server: DevServer) -> None:
    """Print a line whenever something changes."""
    last = ""
    for snapshot in server.watch():
        states = ", ".join(f"{prompt.prompt_id} {prompt.state}" for prompt in snapshot.prompts)
        name = snapshot.status.server_id or "dev server"
        line = f"{name} {snapshot.status.health}: {states or 'no prompts'}"
        if line != last:
            click.echo(line, err=True)
        last = line


def _offer_stop(server: DevServer) -> None:
    status = server.status()
    if not status.is_there:
        return
    busy = " although it has prompts" if status.running or status.pending else ""
    if _confirm(f"Stop the dev server {status.server_id}{busy}?"):
        stopped = server.down(force=True)
        cost = usd(stopped.session_cost)
        click.echo(f"machine {status.server_id} is stopped; it cost {cost}", err=True)
    else:
        rate = "" if status.price is None else f" and costs {status.price} USD an hour"
        click.echo(f"It keeps running{rate}; comfyloom dev down stops it", err=True)


def _confirm(question: str) -> bool:
    try:
        return is_interactive() and click.confirm(question, err=True)
    except click.Abort:  # a second Ctrl-C means no
        click.echo(err=True)
        return False
