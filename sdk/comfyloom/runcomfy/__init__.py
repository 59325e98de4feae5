"""The control plane: RunComfy's Server API."""

from comfyloom.runcomfy.client import ServerApi
from comfyloom.runcomfy.models import CloudWorkflow, Server
from comfyloom.runcomfy.versions import find_version

__all__ = ["CloudWorkflow", "Server", "ServerApi", "find_version"]
