"""Machines that are launched, used and given back."""

from comfyloom.machines.borrowed import BorrowedMachine
from comfyloom.machines.custody import Custody, LedgerCustody, machines_of
from comfyloom.machines.machine import Machine
from comfyloom.machines.own import OwnMachine

__all__ = ["BorrowedMachine", "Custody", "LedgerCustody", "Machine", "OwnMachine", "machines_of"]
