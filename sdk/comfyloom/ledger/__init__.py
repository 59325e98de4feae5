"""What is known of machines: one database for all processes.

It takes a quarter of a second to import: `places` and `machines` load it when they first need it.
"""

from comfyloom.ledger.ledger import Ledger
from comfyloom.ledger.machines import Kind, MachineRow, Machines
from comfyloom.ledger.owner import Owner

__all__ = ["Kind", "Ledger", "MachineRow", "Machines", "Owner"]
