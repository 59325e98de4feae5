"""The server's protection against web pages of other sites."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_cross_origin(headers: Headers) -> bool:
    """Return whether a web page of another origin sent a request to a loopback address."""
    origin, host = headers.get("Origin"), headers.get("Host")
    if not origin or not host:
        return False
    source, target = urlsplit(origin), urlsplit(f"//{host}")
    return target.hostname in _LOOPBACK and source.netloc.lower() != target.netloc.lower()
