"""What is shown to a server, and how the server is checked."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

import attrs

from comfyloom._core.redact import register_secret

if TYPE_CHECKING:
    import requests

Signer: TypeAlias = "Callable[[requests.PreparedRequest], requests.PreparedRequest]"
"""Adds a login to a request, as the authentication classes of `requests` do."""

# A shorter header is hardly a secret, and hiding it would garble messages: "true", "gzip".
_SHORTEST_HEADER: Final = 8


@attrs.frozen(kw_only=True, repr=False)
class Access:
    """What every request to one server carries, and how the server's certificate is checked.

    Args:
        authorization: The header of that name, "" for none.
        signer: Called with each request instead, for logins that change.
        headers: Further headers; cookies among them.
        query: Parameters added to every URL.
        verify: Whether to check the server's certificate, or a file or folder of certificates to
            check it with; None for those that the environment names, else certifi's.
        client_cert: A file with our certificate and key, or one file for each.
    """

    authorization: str = ""
    signer: Signer | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    query: tuple[tuple[str, str], ...] = ()
    verify: bool | str | None = None
    client_cert: str | tuple[str, str] | None = None

    def __attrs_post_init__(self) -> None:
        for value in (self.authorization, self.authorization.partition(" ")[2]):
            register_secret(value)
        for value in (*self.headers.values(), *(value for _, value in self.query)):
            if len(value) >= _SHORTEST_HEADER:
                register_secret(value)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the login to a request."""
        if self.signer is not None:
            return self.signer(request)
        if self.authorization:
            request.headers["Authorization"] = self.authorization
        return request

    def prepare(self, session: requests.Session, url: str) -> None:
        """Make a session show all this to the server at a URL.

        The session then takes nothing from the environment: neither a proxy, which `Proxy` finds,
        nor a password from ~/.netrc.
        """
        session.trust_env = False
        session.auth = self
        # By name: requests adds the parameters of a session only if they are a mapping.
        query: dict[str, list[str]] = {}
        for name, value in self.query:
            query.setdefault(name, []).append(value)
        session.params = query
        for name, value in self.headers.items():
            if name.lower() == "cookie":
                _add_cookies(session, value, url)
            else:
                session.headers[name] = value.encode()  # as text, only Latin-1 could be sent


def basic(user: str, password: str) -> str:
    """Return the header of a login by user and password, in UTF-8 (RFC 7617)."""
    register_secret(password)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    """Return the header of a login by token."""
    return f"Bearer {token}"


def _add_cookies(session: requests.Session, header: str, url: str) -> None:
    # Into the jar, where the server may replace them. It calls a host without a dot "….local".
    host = urlsplit(url).netloc.lower().rpartition("@")[2]
    host = re.sub(r":\d+$", "", host)
    jar: Any = session.cookies  # its stubs are partly untyped
    domain = host if "." in host else f"{host}.local"
    for pair in header.split(";"):
        name, equals, value = pair.strip().partition("=")
        if equals:
            jar.set(name, value, domain=domain)
            if len(value) >= _SHORTEST_HEADER:
                register_secret(value)


NO_ACCESS: Final = Access()
