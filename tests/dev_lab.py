"""What tests of the dev server look up, and what they do to its machine from outside."""

from __future__ import annotations

from comfyloom._records.dev_state import DevState
from comfyloom._records.dev_state_file import StateFile
from comfyloom._runcomfy.client import ServerApi
from comfyloom.settings import Settings


def state_of(settings: Settings) -> DevState:
    """Return what the state file holds."""
    return StateFile(settings.state_file).read()


def stop_machine(settings: Settings, server_id: str) -> None:
    """Stop a machine without the knowledge of its dev server."""
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    api.stop_server(server_id)
    api.close()


def duration_of(settings: Settings, server_id: str) -> float:
    """Return the seconds after Ready at which the platform will stop a machine."""
    api = ServerApi(settings.api_base_url, settings.user_id, settings.api_token)
    duration = api.get_server(server_id).estimated_duration
    api.close()
    assert duration is not None
    return duration
