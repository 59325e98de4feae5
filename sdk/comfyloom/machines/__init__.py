"""Machines that are launched, used and given back."""

from comfyloom.machines.borrowed import BorrowedMachine
from comfyloom.machines.machine import Machine
from comfyloom.machines.own import OwnMachine
from comfyloom.machines.register import Register

__all__ = ["BorrowedMachine", "Machine", "OwnMachine", "Register"]
