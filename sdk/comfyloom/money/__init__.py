"""What machines cost."""

from comfyloom.money.prices import cost, price_per_hour

__all__ = ["cost", "price_per_hour"]
