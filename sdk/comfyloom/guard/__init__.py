"""The guard process: ends the machines of a process that was killed."""

from comfyloom.guard.guard import Guard, Held, guard_of_process

__all__ = ["Guard", "Held", "guard_of_process"]
