"""Shared parts of the commands: options, settings, and the formatting of times and money."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from comfyloom._runcomfy.client import ServerApi
from comfyloom.settings import LONGEST_DURATION_S, Settings, to_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

_UNWRAPPED_COLUMNS: Final = 400

credentials_option = click.option(
    "--credentials",
    metavar="FILE",
    help="A credentials file.  [default: credentials.txt here or in the project's folder, …]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = click.option("--force", is_flag=True, help="Stop it even if it has prompts.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


class Duration(click.ParamType[float]):
    """A duration in seconds, given as `900` or as `1h30m`.

    Args:
        least_s: The shortest duration that is accepted, in seconds.
    """

    name = "time"

    def __init__(self, least_s: float = 60.0) -> None:
        self._least_s = least_s

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds that a string describes."""
        try:
            seconds = to_seconds(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)
        if not self._least_s <= seconds <= LONGEST_DURATION_S:
            text = f"{value:.40} is not between {self._least_s:g} s and 30 days"
            return self.fail(text, param, ctx)
        return seconds


@contextmanager
def account(credentials: str | None) -> Generator[tuple[Settings, ServerApi]]:
    """Yield the settings and a client of the Server API, which is closed after the block."""
    settings = Settings.load(credentials=credentials)
    with ServerApi.of(settings) as api:
        yield settings, api


def span(seconds: float | None) -> str:
    """Return a duration as human-readable text: `1 h 04 min`, `12 min`, `48 s`."""
    if seconds is None:
        return "not known"
    if seconds < 119.5:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def usd(amount: Decimal | None) -> str:
    """Return an amount as human-readable text; an unknown amount is never shown as zero."""
    return "price not known" if amount is None else f"{amount:.4f} USD"


def is_interactive() -> bool:
    """Return whether the user can be asked on the terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def console(*, stderr: bool = False) -> Console:
    """Return the console that tables and live views are printed on."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    if found.is_terminal:
        return found
    # Output that is piped or written to a file must not be wrapped.
    return Console(stderr=stderr, highlight=False, width=_UNWRAPPED_COLUMNS)


def print_pairs(pairs: Mapping[str, str], colours: Mapping[str, str] | None = None) -> None:
    """Print names and values, one pair per line.

    Args:
        pairs: The values by name.
        colours: The colours of some values, by name.
    """
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        colour = (colours or {}).get(name)
        shown = click.style(value, fg=colour, bold=colour == "red") if colour else value
        click.echo(f"{click.style(f'{name:<{width}}', dim=True)}  {shown}")


def print_table(table: Table, *, stderr: bool = False) -> None:
    """Print a table; without trailing spaces if the output is not a terminal."""
    out = console(stderr=stderr)
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), err=stderr)
