"""Whose the remembered machine is, and what follows from that."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from comfyloom.errors import MachineError
from comfyloom.machines.dev.state import DevState
from comfyloom.machines.lease import Lease
from comfyloom.runcomfy import ServerApi
from comfyloom.settings import Settings

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def check_owner(state: DevState, settings: Settings, path: Path) -> None:
    """Refuse to act on a machine of another account: these credentials say nothing of it.

    Raises:
        MachineError: It belongs to another account, which may still pay for it.
    """
    if state.is_of(settings) or is_gone_with_its_emulator(state):
        return
    account = f"user {state.user_id or 'unknown'} at {state.api_base_url or 'RunComfy'}"
    raise MachineError(
        f"{path} names machine {state.server_id or '(launching)'} of another account ({account}): "
        "use its credentials to stop it, or another COMFYLOOM_STATE_FILE",
        server_id=state.server_id,
        status=state.status,
    )


def is_gone_with_its_emulator(state: DevState) -> bool:
    """Return whether the machine was an emulated one, and its emulator has ended.

    A platform on this computer that nobody runs any more bills nobody.
    """
    parts = urlsplit(state.api_base_url)
    if parts.hostname not in _LOOPBACK:
        return False
    try:
        socket.create_connection((parts.hostname, parts.port or 80), timeout=1.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def lease_of(state: DevState, api: ServerApi) -> Lease:
    """Return the lease of the dev server, as it was asked for."""
    return Lease(api, state.server_id, int(state.idle_timeout), state.max_duration)
