"""Choosing a kind of machine on a terminal."""

from __future__ import annotations

import click

from comfyloom._money.prices import Offer, PriceList
from comfyloom.cli.shared import is_interactive, print_table
from comfyloom.settings import Settings


def choose_server_type(settings: Settings) -> str | None:
    """Ask which kind of machine to launch; None where nobody can be asked, or it is set."""
    if settings.asked_server_type is not None or not is_interactive():
        return None
    prices = PriceList.of(settings)
    offers = prices.offers()
    _print(offers, prices)
    return _ask(offers, settings.server_type)


def _print(offers: list[Offer], prices: PriceList) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), caption=f"prices: {prices.origin}")
    table.caption_justify = "left"
    for name in ("", "server type", "GPU"):
        table.add_column(name, style="bold" if name == "server type" else "")
    for name in ("memory", "USD an hour"):
        table.add_column(name, justify="right")
    for number, offer in enumerate(offers, 1):
        memory = "" if offer.vram_gb is None else f"{offer.vram_gb} GB"
        price = "not known" if offer.price is None else str(offer.price)
        table.add_row(str(number), offer.server_type, offer.gpu, memory, price)
    print_table(table, stderr=True)


def _ask(offers: list[Offer], default: str) -> str:
    """Return the name that somebody types, or that of the number."""

    def name(typed: str) -> str:
        if typed.isdigit():
            if not 1 <= int(typed) <= len(offers):
                raise click.BadParameter(f"1 to {len(offers)}, or a name")
            return offers[int(typed) - 1].server_type
        if typed.strip() not in [offer.server_type for offer in offers]:
            raise click.BadParameter(f"1 to {len(offers)}, or a name; others with --server-type")
        return typed.strip()

    return str(click.prompt("Server type", default=default, value_proc=name, err=True))
