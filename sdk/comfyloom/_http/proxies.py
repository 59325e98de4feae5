"""Which proxy a server is reached through: none for one on this computer."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs


def is_loopback(url: str) -> bool:
    """Return whether a URL names this computer: 127.0.0.0/8, ::1, localhost, 0.0.0.0."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


@attrs.frozen
class Proxy:
    """A proxy; its URL may contain a password."""

    url: str = attrs.field(repr=False)

    @classmethod
    def of(cls, url: str) -> Proxy | None:
        """Return the proxy that the environment names for a URL, None for none."""
        if is_loopback(url):
            return None
        from requests.utils import get_environ_proxies, select_proxy

        found = select_proxy(url, get_environ_proxies(url))
        return cls(found if "://" in found else f"http://{found}") if found else None

    @property
    def name(self) -> str:
        """Its address for messages, without a password."""
        try:
            parts = urlsplit(self.url)
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
        except ValueError:
            return "in the environment"

    @property
    def is_socks(self) -> bool:
        """Whether it needs the SOCKS libraries."""
        return self.url.lower().startswith("socks")

    def socket_options(self) -> dict[str, Any]:
        """Return the options by which websocket-client uses it."""
        parts = urlsplit(self.url)
        scheme = parts.scheme.lower()
        port = parts.port or (1080 if self.is_socks else 443 if scheme == "https" else 80)
        user = unquote(parts.username or "")
        return {
            "http_proxy_host": parts.hostname,
            "http_proxy_port": port,
            "http_proxy_auth": (user, unquote(parts.password or "")) if user else None,
            "proxy_type": scheme if self.is_socks else "http",
            # The environment was consulted here; the library would read NO_PROXY differently.
            "http_no_proxy": ["-"],
        }


# websocket-client reads the environment unless it is given a proxy; this one it never uses.
NO_PROXY_OPTIONS: dict[str, Any] = {
    "http_proxy_host": "none.invalid",
    "http_proxy_port": 1,
    "http_no_proxy": ["*"],
}
