"""RunComfy and its ComfyUI machines, emulated in this process for tests and demos.

    with Emulator(time="immediate") as emulator:
        os.environ.update(emulator.environment())

The emulator shares no code with the client it serves, so that a misunderstanding in one of them
cannot cancel out in the other.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfyloom_emulator.catalogue import SCENARIOS, Scenario, scenario
    from comfyloom_emulator.clock import Clock, ImmediateClock, ManualClock, RealClock
    from comfyloom_emulator.emulator import Emulator
    from comfyloom_emulator.faults import (
        Fault,
        HttpFault,
        MachineFault,
        PromptFault,
        RunFault,
        SocketFault,
    )
    from comfyloom_emulator.nodes.spec import Node, NodeCall, NodeResult

__all__ = [
    "Emulator",
    "Clock",
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

_HOMES = {
    "Emulator": "emulator",
    "Clock": "clock",
    "ImmediateClock": "clock",
    "ManualClock": "clock",
    "RealClock": "clock",
    "Fault": "faults",
    "HttpFault": "faults",
    "MachineFault": "faults",
    "PromptFault": "faults",
    "RunFault": "faults",
    "SocketFault": "faults",
    "SCENARIOS": "catalogue",
    "Scenario": "catalogue",
    "scenario": "catalogue",
    "Node": "nodes.spec",
    "NodeCall": "nodes.spec",
    "NodeResult": "nodes.spec",
}


def __getattr__(name: str) -> object:
    # The web server and the array libraries behind these names are dear to import.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        hint = f"the emulator needs {error.name}: pip install 'comfyloom[emulator]'"
        raise ModuleNotFoundError(hint, name=error.name) from None
