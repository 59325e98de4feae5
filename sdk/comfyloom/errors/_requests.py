"""Errors of requests to the platform and to a ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfyloom._core.redact import redact
from comfyloom.errors._base import ComfyloomError


class TransportError(ComfyloomError):
    """A server could not be reached, or did not answer in full.

    Attributes:
        errors: The error of each attempt, newest first.
        sent: Whether the request may have reached the server.
        timed_out: Whether the server was silent for too long, in the last attempt.
    """

    def __init__(
        self,
        message: str = "",
        *,
        errors: Sequence[str] = (),
        sent: bool = True,
        timed_out: bool = False,
    ) -> None:
        self.errors = tuple(redact(error) for error in errors)
        self.sent = sent
        self.timed_out = timed_out
        super().__init__(message)


class ApiError(ComfyloomError):
    """A server refused a request.

    Attributes:
        status: The HTTP status.
        code: The server's own name for the error, or "".
        body: The response body as text, at most 2,000 characters.
        request: Method and path.
        errors: The error of each attempt, newest first; empty after a single attempt.
        retry_after_s: Seconds that the server asks to wait before another attempt, else 0.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: str = "",
        body: str = "",
        request: str = "",
        errors: Sequence[str] = (),
        retry_after_s: float = 0.0,
    ) -> None:
        self.errors = tuple(redact(error) for error in errors)
        self.retry_after_s = retry_after_s
        self.status = status
        self.code = code
        self.body = redact(body)
        self.request = redact(request)
        super().__init__(message)

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again: 3xx, and 4xx except 408 and 429."""
        return 300 <= self.status < 500 and self.status not in (408, 429)


class Unauthorized(ApiError):
    """The token or login was not accepted."""


class Forbidden(ApiError):
    """The account or login may not do this, or the base URL or path is wrong."""


class NotFound(ApiError):
    """The server has nothing with this name or id."""


class RateLimited(ApiError):
    """Too many requests: RunComfy allows one a second on average."""


class PromptRejected(ApiError):
    """ComfyUI refused the graph.

    Attributes:
        node_errors: The errors that the server reported, by node id.
    """

    def __init__(
        self,
        message: str = "",
        *,
        node_errors: Mapping[str, Any] | None = None,
        status: int = 0,
        code: str = "",
        body: str = "",
        request: str = "",
    ) -> None:
        self.node_errors = dict(node_errors or {})
        super().__init__(message, status=status, code=code, body=body, request=request)
