"""Which proxy a server is reached through: none for one on this computer."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from comfyloom.errors import TransportError


def is_loopback(url: str) -> bool:
    """Return whether a URL names this computer: 127.0.0.0/8, ::1, localhost, 0.0.0.0."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = _address(host.partition("%")[0])
    except (ValueError, OSError):
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that a host is, also as the system reads it: 127.1, 0x7f000001."""
    if ":" in host:
        return ipaddress.ip_address(host)
    return ipaddress.IPv4Address(socket.inet_aton(host))


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
        if not found:
            return None
        # Desktops name SOCKS without a version.
        is_bare = "://" not in found
        return cls(f"http://{found}" if is_bare else re.sub(r"(?i)^socks://", "socks5://", found))

    @property
    def login(self) -> tuple[str, str] | None:
        """The user and password that it wants, None for none."""
        parts = urlsplit(self.url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return (user, password) if user or password else None

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
        """Return the options by which websocket-client uses it.

        Raises:
            TransportError: It cannot: it would show the login to the network.
        """
        parts = urlsplit(self.url)
        scheme = parts.scheme.lower()
        if scheme == "https":
            text = f"the event socket cannot go through the https:// proxy {self.name}"
            raise TransportError(text, sent=False)
        port = parts.port or (1080 if self.is_socks else 80)
        login = self.login
        if login is not None and not self.is_socks:
            # The library leaves the colon out where there is no password.
            login = (":".join(login), "") if not login[1] else login
        return {
            "http_proxy_host": parts.hostname,
            "http_proxy_port": port,
            "http_proxy_auth": login,
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
