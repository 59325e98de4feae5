"""The URL of a machine's ComfyUI. It is a secret: the machine has no other authentication."""

from __future__ import annotations

from comfyloom._core.redact import register_url_secret
from comfyloom._runcomfy.models import Server


def machine_url(server: Server) -> str:
    """Return the URL of a machine's ComfyUI, and register it as a secret.

    If the platform does not report one, the documented pattern is used.
    """
    url = server.main_service_url or f"https://{server.server_id}-comfyui.runcomfy.com"
    register_url_secret(url)
    return url
