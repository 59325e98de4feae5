"""A routing table; its owner answers unknown paths and wrong methods."""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeAlias, TypeVar

import attrs
from starlette.requests import Request
from starlette.responses import Response

OwnerT = TypeVar("OwnerT")
Handler: TypeAlias = Callable[[OwnerT, Request], Awaitable[Response]]


@attrs.frozen
class Route(Generic[OwnerT]):
    """A method, a path with `{name}` placeholders, and their handler."""

    method: str
    path: str
    handler: Handler[OwnerT]

    def pattern(self) -> re.Pattern[str]:
        """Return the path as a regular expression."""
        parts = re.split(r"\{(\w+)\}", self.path)
        texts = [
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        ]
        return re.compile("".join(texts))


@attrs.frozen
class NoRoute:
    """No route matches; `allowed` holds the methods of the path, if the path exists."""

    allowed: frozenset[str]


class Router(Generic[OwnerT]):
    """Finds the handler of a request."""

    def __init__(self, routes: Iterable[Route[OwnerT]]) -> None:
        self._routes = [(route, route.pattern()) for route in routes]

    def find(self, request: Request, path: str) -> Handler[OwnerT] | NoRoute:
        """Return the handler for `path`; its placeholders become `request.path_params`."""
        allowed: set[str] = set()
        for route, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            # HEAD is a GET; the web server leaves out the body.
            if request.method in {route.method, "HEAD" if route.method == "GET" else ""}:
                request.scope["path_params"] = match.groupdict()
                return route.handler
            allowed |= {route.method, "HEAD"} if route.method == "GET" else {route.method}
        return NoRoute(frozenset(allowed))
