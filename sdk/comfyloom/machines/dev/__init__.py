"""The dev server: a machine that is started once and used by many sessions."""

from comfyloom.machines.dev.borrow import Borrowing, Refusal
from comfyloom.machines.dev.health import DevStatus
from comfyloom.machines.dev.server import DevServer
from comfyloom.machines.dev.watch import Watched, WatchedPrompt

__all__ = ["Borrowing", "DevServer", "DevStatus", "Refusal", "Watched", "WatchedPrompt"]
