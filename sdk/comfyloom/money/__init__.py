"""What machines cost."""

from comfyloom.money.prices import Offer, PriceList

__all__ = ["Offer", "PriceList"]
