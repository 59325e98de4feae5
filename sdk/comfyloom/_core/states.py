"""A state that several threads change, only along its transitions."""

from __future__ import annotations

import threading
from enum import Enum
from typing import Generic, TypeVar

import attrs

StateT = TypeVar("StateT", bound=Enum)


@attrs.define(eq=False)
class StateHolder(Generic[StateT]):
    """Holds one state; two threads never make a transition from the same state at once."""

    state: StateT
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, repr=False)

    def move(self, *sources: StateT, to: StateT) -> bool:
        """Change the state if it is one of `sources`; return whether it was."""
        with self._lock:
            if self.state not in sources:
                return False
            self.state = to
            return True
