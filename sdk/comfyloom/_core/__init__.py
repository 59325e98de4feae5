"""Helpers that every layer may import, and that import no other layer."""
