"""RunComfy and its ComfyUI machines, emulated on this computer for tests and demos.

    with Emulator() as emulator, RunComfySession(emulator) as session:
        ...

This is the public name of the package `comfyloom_emulator`, which shares no code with this client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfyloom_emulator import (
        SCENARIOS,
        Emulator,
        EmulatorClock,
        Fault,
        HttpFault,
        ImmediateClock,
        MachineFault,
        ManualClock,
        Node,
        NodeCall,
        NodeResult,
        PromptFault,
        RealClock,
        RunFault,
        Scenario,
        SocketFault,
        scenario,
    )

__all__ = [
    "Emulator",
    "EmulatorClock",
    "ImmediateClock",
    "ManualClock",
    "RealClock",
    "Fault",
    "HttpFault",
    "MachineFault",
    "PromptFault",
    "RunFault",
    "SocketFault",
    "SCENARIOS",
    "Scenario",
    "scenario",
    "Node",
    "NodeCall",
    "NodeResult",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import comfyloom_emulator

    return getattr(comfyloom_emulator, name)
