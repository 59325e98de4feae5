"""Sessions and runs."""
