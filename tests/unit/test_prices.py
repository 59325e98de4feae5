"""Prices are data: dated, overridable, and never zero if they are not known."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files

from comfyloom._money.prices import PriceList


def test_each_plan_has_its_price() -> None:
    assert PriceList().per_hour("medium") == Decimal("0.99")
    assert PriceList(plan="pro").per_hour("medium") == Decimal("0.79")


def test_an_unknown_machine_type_has_an_unknown_price() -> None:
    prices = PriceList()
    assert prices.per_hour("3x-large") is None
    assert prices.cost("3x-large", 3600) is None
    assert prices.rate("3x-large") == "an unknown price"


def test_overrides_replace_prices_and_add_machine_types() -> None:
    prices = PriceList(overrides={"medium": Decimal("0.5"), "3x-large": Decimal("8.75")})
    assert prices.cost("medium", 1800) == Decimal("0.2500")
    assert prices.rate("3x-large") == "8.75 USD an hour"
    assert [offer.server_type for offer in prices.offers()][-1] == "3x-large"


def test_seconds_are_billed_and_a_negative_time_costs_nothing() -> None:
    assert PriceList().cost("large", 1) == Decimal("0.0005")
    assert PriceList().cost("large", -5) == Decimal("0.0000")


def test_offers_are_sorted_by_price_and_name_the_gpu() -> None:
    offers = PriceList().offers()
    prices = [offer.price for offer in offers if offer.price is not None]
    assert prices == sorted(prices)
    assert offers[0].gpu == "T4 / A4000"
    assert offers[0].vram_gb == 16


def test_the_data_is_dated_and_has_a_source() -> None:
    table = json.loads(files("comfyloom._money").joinpath("prices.json").read_text("utf-8"))
    assert table["as_of"].startswith("20")
    assert table["source"] in PriceList().origin
    assert all({"payg", "pro"} <= set(row) for row in table["server_types"].values())
