"""Prices of machines: dated data, never constants. Money is `Decimal`, in USD."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

Plan: TypeAlias = Literal["payg", "pro"]


@functools.cache
def _table() -> Mapping[str, Any]:
    text = importlib.resources.files("comfyloom.money").joinpath("prices.json").read_text("utf-8")
    return cast("Mapping[str, Any]", json.loads(text)["server_types"])


def price_per_hour(server_type: str, plan: Plan = "payg") -> Decimal | None:
    """Return the price of an hour in USD; None for a type whose price is not known."""
    row = _table().get(server_type)
    return None if row is None else Decimal(row[plan])


def cost(server_type: str, seconds: float, plan: Plan = "payg") -> Decimal | None:
    """Return what `seconds` of a machine cost in USD, to a hundredth of a cent.

    Machines are billed by the second, from Ready until they are stopped.
    """
    price = price_per_hour(server_type, plan)
    if price is None:
        return None
    return (price * Decimal(str(max(0.0, seconds))) / 3600).quantize(Decimal("0.0001"))
