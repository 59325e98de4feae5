"""RunComfy and its ComfyUI machines, emulated on this computer for tests and demos.

    with Emulator() as emulator, RunComfySession(emulator) as session:
        ...

This is the public name of the package `comfyloom_emulator`, which shares no code with this client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfyloom_emulator
from comfyloom_emulator import __all__ as __all__

if TYPE_CHECKING:
    from comfyloom_emulator import *  # noqa: F403 - exactly the names in __all__


def __getattr__(name: str) -> object:
    return getattr(comfyloom_emulator, name)
