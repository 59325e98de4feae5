"""Machines that are launched, used and given back."""

from comfyloom.machines.machine import Machine

__all__ = ["Machine"]
