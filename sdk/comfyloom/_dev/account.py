"""The account of the dev server."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from comfyloom._core.timeouts import DEFAULT_TIMEOUTS, Timeouts
from comfyloom._http.proxies import is_loopback
from comfyloom._http.retry import NO_RETRY
from comfyloom._http.transport import Transport
from comfyloom._machines.lease import Lease
from comfyloom._records.dev_state import DevState
from comfyloom._runcomfy.client import ServerApi
from comfyloom.errors import MachineError, TransportError
from comfyloom.settings import Settings


def check_owner(state: DevState, settings: Settings, path: Path) -> None:
    """Refuse to act on a machine of another account.

    Raises:
        MachineError: It belongs to another account, which may still pay for it.
    """
    if state.is_of(settings):
        return
    account = f"user {state.user_id or 'unknown'} at {state.api_base_url or 'RunComfy'}"
    raise MachineError(
        f"{path} names machine {state.server_id or '(launching)'} of another account ({account}): "
        "use its credentials to stop it, or another COMFYLOOM_STATE_FILE",
        server_id=state.server_id,
        status=state.status,
    )


def is_emulator(base_url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> bool:
    """Return whether a platform is an emulator on this computer."""
    if not is_loopback(base_url):
        return False
    http = Transport(base_url.rstrip("/"), "RunComfy", backoff=NO_RETRY)
    try:
        return (
            http.send("GET", "/_emulator/state", timeout_s=timeouts.dev_emulator_s).status_code
            == 200
        )
    except TransportError:
        return False
    finally:
        http.close()


def is_gone_with_its_emulator(state: DevState, timeouts: Timeouts) -> bool:
    """Return whether the machine was emulated, and its emulator has ended: nothing is billed.

    Any other platform on a local port may be a tunnel to a real one.
    """
    if not state.is_emulated:
        return False
    parts = urlsplit(state.api_base_url)
    address = parts.hostname or "", parts.port or 80
    try:
        socket.create_connection(address, timeouts.dev_emulator_s).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def lease_of(state: DevState, api: ServerApi, settings: Settings) -> Lease:
    """Return the lease of the dev server; the settings replace missing times."""
    idle_s = state.idle_timeout or settings.dev_idle_timeout_s
    longest_s = state.max_duration or settings.dev_max_duration_s
    return Lease(api, state.server_id, int(idle_s), longest_s)
