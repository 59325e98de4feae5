"""RunComfy and its ComfyUI machines, emulated in this process for tests and demos.

    with Emulator(time="immediate") as emulator:
        os.environ.update(emulator.environment())

The emulator shares no code with the client it serves, so that the same misunderstanding cannot
hide in both.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfyloom_emulator.clock import EmulatorClock, ImmediateClock, ManualClock, RealClock
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
    from comfyloom_emulator.scenarios import SCENARIOS, Scenario, scenario

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

_MODULES = {
    "Emulator": "emulator",
    "EmulatorClock": "clock",
    "ImmediateClock": "clock",
    "ManualClock": "clock",
    "RealClock": "clock",
    "Fault": "faults",
    "HttpFault": "faults",
    "MachineFault": "faults",
    "PromptFault": "faults",
    "RunFault": "faults",
    "SocketFault": "faults",
    "SCENARIOS": "scenarios",
    "Scenario": "scenarios",
    "scenario": "scenarios",
    "Node": "nodes.spec",
    "NodeCall": "nodes.spec",
    "NodeResult": "nodes.spec",
}


def __getattr__(name: str) -> object:
    # Lazy: the web server and the array libraries behind these names are slow to import.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        hint = f"the emulator needs {error.name}: pip install 'comfyloom[emulator]'"
        raise ModuleNotFoundError(hint, name=error.name) from None
