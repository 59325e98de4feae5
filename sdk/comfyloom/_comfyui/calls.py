"""Requests to a ComfyUI whose answers are checked: a value, or the error that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from comfyloom._comfyui.answers import json_of, raise_for_status
from comfyloom._core.json import is_mapping
from comfyloom._http.retry import Backoff
from comfyloom._http.transport import Transport
from comfyloom.errors import ApiError

if TYPE_CHECKING:
    import requests


@attrs.frozen(eq=False)
class Calls:
    """Sends requests, and raises what a refusal means.

    Every method raises `TransportError` without an answer, and `ApiError` for a refusal or an
    answer that is not ComfyUI's.

    Args:
        http: The connections to the server.
    """

    http: Transport

    def get(self, path: str, **options: Any) -> object:
        """Return the JSON at a path; `options` as for `answer`."""
        return json_of(self.answer(path, **options), f"GET {path}")

    def get_object(self, path: str, **options: Any) -> Mapping[str, Any]:
        """Return the JSON object at a path; `options` as for `answer`."""
        found = self.get(path, **options)
        if not is_mapping(found):
            raise ApiError(f"ComfyUI: {path} is not a JSON object", request=f"GET {path}")
        return found

    def answer(
        self,
        path: str,
        *,
        backoff: Backoff | None = None,
        timeout_s: float | None = None,
        is_over: Callable[[], bool] = lambda: False,
        is_large: bool = False,
    ) -> requests.Response:
        """Return a whole answer.

        Args:
            path: Below the server's address.
            backoff: Instead of the transport's.
            timeout_s: Longest silence of the server, in seconds.
            is_over: Whether to give the answer up, asked while it comes.
            is_large: Whether it may have graphs, and take its time on a slow line.
        """
        errors: list[str] = []
        answer = self.http.send(
            "GET",
            path,
            backoff=backoff,
            errors=errors,
            timeout_s=timeout_s,
            whole_s=self.http.timeouts.large_s if is_large else None,
            is_over=is_over,
        )
        raise_for_status(answer, f"GET {path}", errors)
        return answer

    def post(self, path: str, **options: Any) -> requests.Response:
        """POST what may be sent again, and return the answer; `options` as for `Transport.send`."""
        errors: list[str] = []
        answer = self.http.send("POST", path, repeatable=True, errors=errors, **options)
        raise_for_status(answer, f"POST {path}", errors)
        return answer
