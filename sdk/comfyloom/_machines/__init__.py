"""Rented machines: launch, start, lease, stop, reaper."""
