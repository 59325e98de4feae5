"""The life of a rented machine: launch, start, lease, stop, reaper."""
