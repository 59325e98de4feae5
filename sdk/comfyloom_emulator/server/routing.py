"""A table of routes, with the answers to wrong paths and methods left to its owner."""

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
    """A method and path, the latter with `{name}` for a part, and the handler for them."""

    method: str
    path: str
    handler: Handler[OwnerT]

    def pattern(self) -> re.Pattern[str]:
        """The path as a regular expression."""
        parts = re.split(r"\{(\w+)\}", self.path)
        texts = [
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        ]
        return re.compile("".join(texts))


@attrs.frozen
class Miss:
    """No route: `allowed` names the methods that the path has, if there is such a path."""

    allowed: frozenset[str]


class Router(Generic[OwnerT]):
    """Finds the handler for a request."""

    def __init__(self, routes: Iterable[Route[OwnerT]]) -> None:
        self._routes = [(route, route.pattern()) for route in routes]

    def find(self, request: Request, path: str) -> Handler[OwnerT] | Miss:
        """The handler for a request to `path`, whose parts become `request.path_params`."""
        allowed: set[str] = set()
        for route, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            # HEAD is GET whose body the server leaves out.
            if request.method in {route.method, "HEAD" if route.method == "GET" else ""}:
                request.scope["path_params"] = match.groupdict()
                return route.handler
            allowed |= {route.method, "HEAD"} if route.method == "GET" else {route.method}
        return Miss(frozenset(allowed))
