"""What a transport reports of its server, to whoever knows whether the server still exists."""

from __future__ import annotations

from typing import Final, Protocol

from comfyloom._core.waiting import FOREVER


class ServerWatch(Protocol):
    """Knows whether a server is gone for good."""

    @property
    def is_over(self) -> bool:
        """Whether the server was found to be gone."""
        ...

    def patience_s(self, path: str) -> float:
        """Return the longest silence that a request to a path can wait for, in seconds."""
        ...

    def heard(self) -> None:
        """Note an answer of the server itself."""
        ...

    def is_gone(self, path: str, status: int, since: float) -> bool:
        """Note a request that failed, and return whether another attempt is useless.

        Args:
            path: The path of the request.
            status: The status of a gateway's answer, 0 without any answer.
            since: When it was sent, by the monotonic clock.
        """
        ...


class _NoWatch:
    """Watches a server that may always come back."""

    is_over = False

    def patience_s(self, path: str) -> float:  # noqa: ARG002
        return FOREVER

    def heard(self) -> None:
        pass

    def is_gone(self, path: str, status: int, since: float) -> bool:  # noqa: ARG002
        return False


NO_WATCH: Final = _NoWatch()
