"""The control plane: RunComfy's Server API."""

from comfyloom.runcomfy.client import ServerApi, account_url
from comfyloom.runcomfy.models import CloudWorkflow, Server
from comfyloom.runcomfy.versions import find_version

__all__ = ["CloudWorkflow", "Server", "ServerApi", "account_url", "find_version"]
