"""Prices of machines: packaged data with a date, which settings can override.

Money is `Decimal`, in USD.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

if TYPE_CHECKING:
    from comfyloom.settings import Plan, Settings

_PRECISION: Final = Decimal("0.0001")


@attrs.frozen(kw_only=True)
class Offer:
    """A machine type that can be rented.

    Attributes:
        server_type: Its name in the Server API.
        gpu: The GPU, "" if it is not known.
        vram_gb: The GPU's memory in GB, None if it is not known.
        price: USD per hour, None if it is not known.
    """

    server_type: str
    gpu: str = ""
    vram_gb: int | None = None
    price: Decimal | None = None


@attrs.frozen(kw_only=True)
class PriceList:
    """The price of each machine type.

    Args:
        plan: RunComfy's plan, `payg` (pay as you go) or `pro`.
        overrides: USD per hour by server type; they replace the packaged prices.
    """

    plan: Plan = "payg"
    overrides: Mapping[str, Decimal] = attrs.field(factory=dict[str, Decimal])

    @classmethod
    def of(cls, settings: Settings) -> PriceList:
        """Return the prices that apply to an account."""
        return cls(plan=settings.plan, overrides=settings.prices)

    def per_hour(self, server_type: str) -> Decimal | None:
        """Return the price in USD per hour, None if it is not known."""
        if server_type in self.overrides:
            return self.overrides[server_type]
        row = _table()["server_types"].get(server_type)
        return None if row is None else Decimal(row[self.plan])

    def cost(self, server_type: str, seconds: float) -> Decimal | None:
        """Return the cost of `seconds` of a machine in USD, rounded to a hundredth of a cent.

        Machines are billed by the second, from Ready until they are stopped. The cost is None if
        the price is not known.
        """
        price = self.per_hour(server_type)
        if price is None:
            return None
        return (price * Decimal(str(max(0.0, seconds))) / 3600).quantize(_PRECISION)

    def rate(self, server_type: str) -> str:
        """Return the hourly price as human-readable text."""
        price = self.per_hour(server_type)
        return "an unknown price" if price is None else f"{price} USD an hour"

    def offers(self) -> list[Offer]:
        """Return all known machine types, the cheapest first."""
        known = _table()["server_types"]
        names = [*known, *(name for name in self.overrides if name not in known)]
        offers = [
            Offer(
                server_type=name,
                gpu=known.get(name, {}).get("gpu", ""),
                vram_gb=known.get(name, {}).get("vram_gb"),
                price=self.per_hour(name),
            )
            for name in names
        ]
        return sorted(offers, key=lambda offer: offer.price or Decimal("Infinity"))

    @property
    def origin(self) -> str:
        """The source and the date of the packaged prices."""
        table = _table()
        return f"{table['source']}, {table['as_of']}"


@functools.cache
def _table() -> Mapping[str, Any]:
    text = importlib.resources.files("comfyloom._money").joinpath("prices.json").read_text("utf-8")
    return cast("Mapping[str, Any]", json.loads(text))
