"""The scripted faults that have not struck yet."""

import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

from comfyloom_emulator.faults import (
    Fault,
    HttpFault,
    MachineFault,
    PromptFault,
    RunFault,
    SocketFault,
)

FaultT = TypeVar("FaultT", HttpFault, SocketFault, PromptFault, RunFault, MachineFault)


@attrs.define
class _ScriptedFault:
    fault: Fault
    passes_left: int
    strikes_left: int


class FaultQueue:
    """Holds scripted faults and hands out each as often as it is to strike; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_ScriptedFault] = []

    def add(self, *faults: Fault) -> None:
        """Script faults. If several match an occasion, the one added first strikes."""
        with self._lock:
            self._entries += [_ScriptedFault(fault, fault.after, fault.times) for fault in faults]

    def clear(self) -> None:
        """Remove all faults that are left."""
        with self._lock:
            self._entries.clear()

    def pending(self) -> list[Fault]:
        """Return the faults that will strike at least once more."""
        with self._lock:
            return [entry.fault for entry in self._entries]

    def unstruck(self) -> list[Fault]:
        """Return the faults that have not struck once."""
        with self._lock:
            return [each.fault for each in self._entries if each.strikes_left == each.fault.times]

    def take_http(self, method: str, path: str) -> HttpFault | None:
        """Return the fault that strikes this request, if any."""
        return self._take(HttpFault, lambda fault: fault.matches(method, path))

    def take_socket(self, path: str) -> SocketFault | None:
        """Return the fault that strikes this handshake, if any."""
        return self._take(SocketFault, lambda fault: fault.matches(path))

    def take_prompt(self) -> PromptFault | None:
        """Return the fault that strikes the prompt that is about to run, if any."""
        return self._take(PromptFault, lambda fault: fault.matches())

    def take_run(self, node: str, class_type: str) -> RunFault | None:
        """Return the fault that strikes this node run, if any."""
        return self._take(RunFault, lambda fault: fault.matches(node, class_type))

    def take_machine(self) -> MachineFault | None:
        """Return the fault that strikes this launch, if any."""
        return self._take(MachineFault, lambda fault: fault.matches())

    def _take(self, kind: type[FaultT], matches: Callable[[FaultT], bool]) -> FaultT | None:
        with self._lock:
            for entry in self._entries:
                if isinstance(entry.fault, kind) and matches(entry.fault) and self._strike(entry):
                    return entry.fault
        return None

    def _strike(self, entry: _ScriptedFault) -> bool:
        if entry.passes_left > 0:
            entry.passes_left -= 1
            return False
        entry.strikes_left -= 1
        if entry.strikes_left <= 0:
            self._entries.remove(entry)
        return entry.strikes_left >= 0
