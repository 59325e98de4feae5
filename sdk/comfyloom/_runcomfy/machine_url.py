"""Where a machine's ComfyUI answers. The URL is a secret: it is all that guards the machine."""

from __future__ import annotations

from comfyloom._core.redact import register_url_secret
from comfyloom._runcomfy.models import Server


def machine_url(server: Server) -> str:
    """Return the URL of a machine; the documented pattern stands in for an empty field."""
    url = server.main_service_url or f"https://{server.server_id}-comfyui.runcomfy.com"
    register_url_secret(url)
    return url
