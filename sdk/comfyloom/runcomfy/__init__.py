"""The control plane: RunComfy's Server API."""

from comfyloom.runcomfy.client import ServerApi
from comfyloom.runcomfy.models import CloudWorkflow, Server

__all__ = ["CloudWorkflow", "Server", "ServerApi"]
