"""The server's guard against web pages of other sites."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_foreign(headers: Headers) -> bool:
    """Whether a request comes from a page of another site than the loopback one it goes to."""
    origin, host = headers.get("Origin"), headers.get("Host")
    if not origin or not host:
        return False
    there, here = urlsplit(origin), urlsplit(f"//{host}")
    return here.hostname in _LOOPBACK and there.netloc.lower() != here.netloc.lower()
