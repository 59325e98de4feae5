"""The address of a ComfyUI, as people have it: typed, or copied from a browser."""

from __future__ import annotations

from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import attrs

from comfyloom._core.redact import register_secret, register_url_secret
from comfyloom._http.access import Access, basic

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_NO_HOST = frozenset('*<>"{}|\\^`,;')
_PAGES = ("/index.html", "/ws")


@attrs.frozen(repr=False)
class Address:
    """Where a ComfyUI is, and the login that its URL contains.

    Attributes:
        base_url: The start of every URL.
        authorization: The login of `user:password@`, "" for none.
        query: The parameters of the URL: a token, for example.
    """

    base_url: str
    authorization: str = ""
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a URL means.

        The page's own parts are dropped: `/#…`, `/index.html`, and of a WebSocket `/ws?clientId=…`.

        Raises:
            ValueError: It is not the URL of a server; the message says why, without the URL.
        """
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError:
            raise ValueError("its host or port is not valid") from None
        scheme = _SCHEMES.get(parts.scheme.lower())
        is_odd = any(letter.isspace() or letter in _NO_HOST for letter in parts.hostname or "")
        if scheme is None or not parts.hostname or port == 0 or is_odd:
            raise ValueError("it is not an http(s):// URL")
        if parts.path.startswith("//"):
            raise ValueError("it has two addresses")
        if "@" in parts.path and "@" in parts.netloc:
            raise ValueError("it has several @: those in a password or path are written %40")
        path = parts.path.rstrip("/")
        page = next((page for page in _PAGES if path.endswith(page)), "")
        host = parts.netloc.rpartition("@")[2]
        base_url = urlunsplit((scheme, host, path.removesuffix(page).rstrip("/"), "", ""))
        authorization = ""
        if parts.username or parts.password:
            password = unquote(parts.password or "")
            authorization = basic(unquote(parts.username or ""), password)
            register_secret(parts.password or "")  # as it is written in the URL
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = tuple((name, value) for name, value in pairs if name != "clientId")
        register_url_secret(text)
        register_url_secret(base_url)
        return cls(base_url, authorization, query)

    @property
    def identity(self) -> str:
        """The server's identity: a gateway may choose it by the query or the login."""
        return "\n".join((self.base_url, self.authorization, *map("=".join, self.query)))

    def completing(self, access: Access) -> Access:
        """Return an access with the login of the URL, where it has none of its own."""
        is_open = not access.authorization and access.signer is None
        return attrs.evolve(
            access,
            authorization=self.authorization if is_open else access.authorization,
            query=(*self.query, *access.query),
        )
