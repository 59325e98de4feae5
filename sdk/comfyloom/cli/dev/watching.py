"""`--watch`: machine, queue and prompts, live until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from comfyloom._dev.server import DevServer
from comfyloom._dev.watch import StatusSnapshot, WatchedPrompt
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
            _live(server, out)
        else:
            _lines(server)
    except KeyboardInterrupt:
        _leave(server)


def _live(server: DevServer, out: Console) -> None:
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        for watched in server.watch():
            live.update(_picture(watched), refresh=True)


def _picture(watched: StatusSnapshot) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in pairs(watched.status).items():
        if name != "prompts":
            style = COLOURS.get(watched.status.health, "") if name == "health" else ""
            facts.add_row(name, Text(value, style=style))
    prompts = Table.grid(padding=(0, 1))
    for prompt in watched.prompts:
        prompts.add_row(_SIGNS[prompt.state], prompt.prompt_id, prompt.state, _seconds(prompt))
    rest = prompts if watched.prompts else Text("no prompts", style="dim")
    return Group(facts, "", rest, Text("Ctrl-C ends the watch", style="dim"))


def _seconds(prompt: WatchedPrompt) -> str:
    return span(prompt.seconds) if prompt.seconds else ""


def _lines(server: DevServer) -> None:
    """Print a line whenever something has changed."""
    last = ""
    for watched in server.watch():
        counts = ", ".join(f"{prompt.prompt_id} {prompt.state}" for prompt in watched.prompts)
        name = watched.status.server_id or "dev server"
        line = f"{name} {watched.status.health}: {counts or 'no prompts'}"
        if line != last:
            click.echo(line, err=True)
        last = line


def _leave(server: DevServer) -> None:
    status = server.status()
    if not status.is_there:
        return
    at_work = " although prompts run" if status.running or status.pending else ""
    if _agreed(f"Stop the dev server {status.server_id}{at_work}?"):
        ended = server.down(force=True)
        cost = usd(ended.session_cost)
        click.echo(f"machine {status.server_id} is stopped, it has cost {cost}", err=True)
    else:
        rate = "" if status.price is None else f" and costs {status.price} USD an hour"
        click.echo(f"It goes on{rate}: comfyloom dev status, comfyloom dev down", err=True)


def _agreed(question: str) -> bool:
    try:
        return is_interactive() and click.confirm(question, err=True)
    except click.Abort:  # a second Ctrl-C is no answer
        click.echo(err=True)
        return False
