"""`comfyloom machines list | show | stop | extend | reap`: all machines of the account."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from comfyloom._core.signals import defer_signals, exit_on_sigterm
from comfyloom._machines.account_machines import AccountMachines, Rented
from comfyloom.cli.json_output import print_json
from comfyloom.cli.main import CONTEXT, SuggestingGroup
from comfyloom.cli.shared import (
    Duration,
    account,
    console,
    credentials_option,
    is_interactive,
    json_option,
    print_pairs,
    print_table,
    span,
    usd,
    yes_option,
)
from comfyloom.errors import ComfyloomError

if TYPE_CHECKING:
    from comfyloom._machines.reaper import Orphan, Reaped

STALE_AFTER_S: Final = 24 * 3600.0
"""A machine without a sign of life for this long has ended with its lease."""
_WIDE_COLUMNS: Final = 110
_MIN_ID_LENGTH: Final = 8


@click.group(cls=SuggestingGroup, context_settings=CONTEXT)
def machines() -> None:
    """List, stop, extend and reap the machines of the account.

    ID may be the first four or more characters of an id, if they identify one machine.
    """


@machines.command("list", context_settings=CONTEXT)
@credentials_option
@json_option
def list_(credentials: str | None, as_json: bool) -> None:
    """List running and starting machines, and what they cost."""
    with _account_machines(credentials) as account_machines:
        found = account_machines.list()
    if as_json:
        print_json({"machines": [_as_json(each) for each in found]})
    else:
        print_machines(found)


@machines.command(context_settings=CONTEXT)
@click.argument("id", metavar="ID")
@credentials_option
@json_option
def show(id: str, credentials: str | None, as_json: bool) -> None:  # noqa: A002
    """Show one machine. Its URL is a secret and is not shown."""
    with _account_machines(credentials) as account_machines:
        found = account_machines.show(id)
    if as_json:
        print_json(_as_json(found))
    else:
        print_pairs(_pairs(found))


@machines.command(context_settings=CONTEXT)
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option(
    "--all-mine",
    is_flag=True,
    help="All machines launched from this computer, including the dev server; asks first.",
)
@yes_option
@credentials_option
@json_option
def stop(
    ids: Sequence[str], all_mine: bool, yes: bool, credentials: str | None, as_json: bool
) -> None:
    """Stop machines, even busy ones, and wait until the platform confirms it."""
    if bool(ids) == all_mine:
        raise click.UsageError("give either the id of each machine, or --all-mine")
    with _account_machines(credentials) as account_machines, exit_on_sigterm():
        names = _mine(account_machines, yes=yes) if all_mine else list(ids)
        outcomes = [_stop(account_machines, name, as_json=as_json) for name in names]
    failures = [error for _, error in outcomes if error is not None]
    if as_json:
        stopped = {"machines": [outcome for outcome, _ in outcomes]}
        print_json(stopped, failures[0] if failures else None)
    elif not names:
        click.echo("no machine was launched from this computer", err=True)
    if len(failures) > 1 and not as_json:
        for error in failures[1:]:
            click.echo(f"comfyloom: {error}", err=True)
    if failures:
        raise failures[0]


@machines.command(context_settings=CONTEXT)
@click.argument("id", metavar="ID")
@click.argument("seconds", type=Duration(least_s=1), metavar="TIME")
@credentials_option
@json_option
def extend(id: str, seconds: float, credentials: str | None, as_json: bool) -> None:  # noqa: A002
    """Extend the lease of a machine, so that it ends later.

    TIME is added to its lease: 900 (seconds), 30m, 1h30m.
    """
    with _account_machines(credentials) as account_machines:
        found = account_machines.extend(id, int(seconds))
        cost = account_machines.prices.cost(found.server.server_type, int(seconds))
    if as_json:
        print_json(_as_json(found))
        return
    print_pairs(_pairs(found))
    click.echo(f"{span(seconds)} more, at most {usd(cost)}", err=True)


@machines.command(context_settings=CONTEXT)
@click.option("--dry-run", is_flag=True, help="Only list what has no living owner.")
@credentials_option
@json_option
def reap(dry_run: bool, credentials: str | None, as_json: bool) -> None:
    """Stop the machines of dead processes, and wait until the platform confirms it.

    Only machines that this account launched with this ledger are checked. The machine of a launch
    without an answer is searched for up to a minute.
    """
    with account(credentials) as (settings, api), exit_on_sigterm():
        from comfyloom._machines.reaper import Reaper  # imports the ledger's database

        reaper = Reaper.of(settings, api, lambda text: click.echo(text, err=True))
        orphans = reaper.orphans()
        reaped = (
            []
            if dry_run
            else [
                defer_signals(partial(reaper.reap, each), waiting=_say_waiting) for each in orphans
            ]
        )
        others = reaper.records.count_of_other_accounts(since=api.now() - STALE_AFTER_S)
    errors = [each.error for each in reaped if each.error is not None]
    if as_json:
        rows = map(_orphan_as_json, orphans) if dry_run else map(_reaped_as_json, reaped)
        print_json({"machines": list(rows)}, errors[0] if errors else None)
    else:
        _print_orphans(orphans, reaped)
        if others:
            text = f"{others} of other accounts may be running: reap them with their credentials"
            click.echo(text, err=True)
    if errors:
        raise errors[0]


def _say_waiting() -> None:
    click.echo("stopping the machine first", err=True)


def _orphan_as_json(orphan: Orphan) -> dict[str, Any]:
    row = orphan.row
    return {
        "server_id": row.server_id,
        "kind": row.kind,
        "server_type": row.server_type,
        "owner": str(row.owner),
        "why": orphan.why,
    }


def _reaped_as_json(reaped: Reaped) -> dict[str, Any]:
    return {
        **_orphan_as_json(reaped.orphan),
        "server_id": reaped.server_id or None,
        "outcome": reaped.outcome,
        "error": None if reaped.error is None else str(reaped.error),
    }


def _print_orphans(orphans: Sequence[Orphan], reaped: Sequence[Reaped]) -> None:
    """Print a line for each orphan: what it is, why it has no owner, and the outcome."""
    for index, orphan in enumerate(orphans):
        done = reaped[index] if reaped else None
        name = (done.server_id if done else orphan.row.server_id) or "(launch without an answer)"
        outcome = f": {done.outcome}" if done else ""
        click.echo(f"{name}  {orphan.row.kind}, {orphan.row.server_type}: {orphan.why}{outcome}")
    if not orphans:
        click.echo("no orphaned machines: every machine has a living owner", err=True)


@contextmanager
def _account_machines(credentials: str | None) -> Generator[AccountMachines]:
    with account(credentials) as (settings, api):
        yield AccountMachines(api, settings)


def _mine(account_machines: AccountMachines, *, yes: bool) -> list[str]:
    """Return the ids of the machines launched from this computer, once the user agrees."""
    mine = [each for each in account_machines.list() if each.whose != "others"]
    if not mine or yes:
        return [each.server.server_id for each in mine]
    print_machines(mine, stderr=True)
    if not is_interactive():
        raise click.UsageError("--all-mine needs --yes if the terminal is not interactive")
    if not click.confirm(f"Stop {_count(mine)}?", err=True):
        click.echo("nothing was stopped", err=True)
        raise click.exceptions.Exit(0)
    return [each.server.server_id for each in mine]


def _stop(
    account_machines: AccountMachines, name: str, *, as_json: bool
) -> tuple[dict[str, Any], ComfyloomError | None]:
    """Stop one machine; return its error, so that the remaining machines are stopped too."""
    try:
        server = defer_signals(lambda: account_machines.stop(name), waiting=_say_waiting)
    except ComfyloomError as error:
        return {"server_id": name, "stopped": False, "error": str(error)}, error
    if not as_json:
        click.echo(f"{server.server_id} stopped")
    return {"server_id": server.server_id, "stopped": True, "error": None}, None


def _as_json(rented: Rented) -> dict[str, Any]:
    server = attrs.asdict(rented.server)
    del server["main_service_url"]  # a secret: the machine has no other authentication
    return {
        **server,
        "whose": rented.whose,
        "uptime_s": round(rented.uptime_s, 1),
        "lease_left_s": None if rented.left_s is None else round(rented.left_s, 1),
        "usd_per_hour": rented.price,
        "cost_usd": rented.cost,
    }


def _pairs(rented: Rented) -> dict[str, str]:
    server = rented.server
    price = "price not known" if rented.price is None else f"{rented.price} USD an hour"
    return {
        "machine": server.server_id,
        "type": f"{server.server_type or 'not known'}, {price}",
        "state": server.current_status or "not known",
        "uptime": span(rented.uptime_s),
        "ends in": span(rented.left_s),
        "cost": usd(rented.cost),
        "launched by": rented.whose,
    }


def print_machines(found: Sequence[Rented], *, stderr: bool = False) -> None:
    """Print a table of machines, and on stderr their number and the sum of their prices."""
    from rich.table import Table

    if not found:
        click.echo("no machines", err=True)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("machine", "type", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("uptime", "ends in", "USD/h", "cost USD"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    names = display_ids([each.server.server_id for each in found], stderr=stderr)
    for name, each in zip(names, found, strict=True):
        server = each.server
        table.add_row(
            name,
            server.server_type,
            server.current_status,
            span(each.uptime_s),
            "?" if each.left_s is None else span(each.left_s),
            "?" if each.price is None else str(each.price),
            "?" if each.cost is None else str(each.cost),
            each.whose,
        )
    print_table(table, stderr=stderr)
    click.echo(f"{_count(found)}, {_rate(found)}", err=True)


def display_ids(ids: Sequence[str], *, stderr: bool) -> list[str]:
    """Return the ids, on a narrow terminal shortened to prefixes that are still unique."""
    if console(stderr=stderr).width >= _WIDE_COLUMNS:
        return list(ids)
    lengths = range(_MIN_ID_LENGTH, 64)
    length = next((n for n in lengths if len({each[:n] for each in ids}) == len(set(ids))), 64)
    return [each[:length] for each in ids]


def _count(found: Sequence[Rented]) -> str:
    return f"{len(found)} machine{'' if len(found) == 1 else 's'}"


def _rate(found: Sequence[Rented]) -> str:
    known = [each.price for each in found if each.price is not None]
    unknown = len(found) - len(known)
    rest = f", and {unknown} at an unknown price" if unknown else ""
    if not known:
        return "at an unknown price"
    return f"{sum(known, Decimal(0))} USD an hour{rest}"
