"""What is shown to a server, and how the server is checked."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, quote_plus, urlsplit

import attrs

from comfyloom._core.redact import register_secret
from comfyloom.errors import ConfigError, TransportError

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
        for value in self.headers.values():
            # Of a whole header, a server may repeat only the token.
            for secret in (value, value.partition(" ")[2]):
                if len(secret) >= _SHORTEST_HEADER:
                    register_secret(secret)
        for _, value in self.query:
            for secret in (value, quote(value, safe=""), quote_plus(value), quote(value)):
                if len(value) >= _SHORTEST_HEADER:
                    register_secret(secret)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the login to a request.

        Raises:
            ConfigError: The callable that adds it fails, or does not return the request.
            TransportError: It sends a request itself, and gets no answer.
        """
        if self.signer is not None:
            return _signed(self.signer, request)
        if self.authorization:
            headers: Any = request.headers
            text = self.authorization
            # Text outside of ASCII would be sent as Latin-1, if it can be.
            headers["Authorization"] = text if text.isascii() else text.encode()
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
        named = {name.lower(): value for name, value in self.headers.items()}
        for name, value in self.headers.items():
            if name.lower() == "cookie":
                # The cookies of a request are those for its Host header.
                _add_cookies(session, value, named.get("host") or urlsplit(url).netloc)
            else:
                session.headers[name] = value.encode()  # as text, only Latin-1 could be sent


def basic(user: str, password: str) -> str:
    """Return the header of a login by user and password, in UTF-8 (RFC 7617)."""
    register_secret(password)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    """Return the header of a login by token."""
    return f"Bearer {token}"


def _signed(signer: Signer, request: requests.PreparedRequest) -> requests.PreparedRequest:
    from requests import PreparedRequest, RequestException

    signed: Any
    try:
        signed = signer(request)
    except RequestException as error:
        text = f"the login got no answer: {type(error).__name__}"
        raise TransportError(text, errors=[text], sent=False) from None
    except Exception as error:
        # Its message may have the secret.
        text = f"auth: the callable that adds the login failed: {type(error).__name__}"
        raise ConfigError(text) from error
    if not isinstance(signed, PreparedRequest):
        kind = type(signed).__name__
        raise ConfigError(f"auth: the callable must return the request, not {kind}")
    return signed


def _add_cookies(session: requests.Session, header: str, netloc: str) -> None:
    # Into the jar, where the server may replace them. It calls a host without a dot "….local".
    from requests import cookies

    host = re.sub(r":\d+$", "", netloc.lower().rpartition("@")[2])
    jar: Any = session.cookies  # its stubs are partly untyped
    make: Any = cookies
    domain = host if "." in host else f"{host}.local"
    for pair in filter(None, map(str.strip, header.split(";"))):
        name, equals, value = pair.partition("=")
        jar.set_cookie(make.create_cookie(name, value if equals else None, domain=domain))
        if len(value or name) >= _SHORTEST_HEADER:
            register_secret(value or name)


NO_ACCESS: Final = Access()
