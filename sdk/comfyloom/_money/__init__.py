"""The prices of machines."""
