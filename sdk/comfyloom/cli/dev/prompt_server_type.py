"""The prompt for a machine type on a terminal."""

from __future__ import annotations

import click

from comfyloom._money.prices import Offer, PriceList
from comfyloom.cli.shared import is_interactive, print_table
from comfyloom.settings import Settings


def prompt_server_type(settings: Settings) -> str | None:
    """Ask the user which machine type to launch.

    Returns:
        The machine type, None if the settings name one or the terminal is not interactive.
    """
    if settings.asked_server_type is not None or not is_interactive():
        return None
    prices = PriceList.of(settings)
    offers = prices.offers()
    _print_offers(offers, prices)
    return _prompt(offers, settings.server_type[0])


def _print_offers(offers: list[Offer], prices: PriceList) -> None:
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


def _prompt(offers: list[Offer], default: str) -> str:
    """Return the machine type that the user names, or picks by its number in the table."""

    def parse(typed: str) -> str:
        if typed.isdigit():
            if not 1 <= int(typed) <= len(offers):
                raise click.BadParameter(f"enter 1 to {len(offers)}, or a name")
            return offers[int(typed) - 1].server_type
        if typed.strip() not in [offer.server_type for offer in offers]:
            hint = "use --server-type for a type that is not listed"
            raise click.BadParameter(f"enter 1 to {len(offers)}, or a name; {hint}")
        return typed.strip()

    return str(click.prompt("Server type", default=default, value_proc=parse, err=True))
