"""What machines cost."""

from comfyloom.money.prices import cost, known_server_types, price_per_hour

__all__ = ["cost", "known_server_types", "price_per_hour"]
