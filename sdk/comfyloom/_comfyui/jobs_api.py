"""The jobs API of newer ComfyUI servers: one small answer tells where a prompt is."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs

from comfyloom._comfyui.answers import json_of, raise_for_status
from comfyloom._core.json import mapping, text
from comfyloom._http.transport import Transport
from comfyloom.errors import ApiError, TransportError

if TYPE_CHECKING:
    import requests

# Servers without a route of the API answer a request on its path with one of these.
_NO_ROUTE: Final = frozenset({404, 405})
_NOT_FOUND: Final = 404


class JobState(Enum):
    """Where a prompt is, by its job."""

    WAITING = "pending"
    RUNNING = "in_progress"
    ENDED = "ended"
    UNKNOWN = "unknown"


_STATES: Final = {
    "pending": JobState.WAITING,
    "in_progress": JobState.RUNNING,
    "completed": JobState.ENDED,
    "failed": JobState.ENDED,
    "cancelled": JobState.ENDED,
}


@attrs.define(eq=False)
class JobsApi:
    """Finds and cancels prompts, if the server can; the first valid answers show what it can.

    ComfyUI 0.8 can find jobs and not cancel them; 0.3 can do neither.

    Attributes:
        can_find: Whether the server describes a job, None while not known.
        can_cancel: Whether it cancels one, None while not known.
    """

    _http: Transport
    can_find: bool | None = attrs.field(default=None, init=False)
    can_cancel: bool | None = attrs.field(default=None, init=False)

    def find(self, prompt_id: str, **options: Any) -> JobState | None:
        """Return where a prompt is, None if the server does not say.

        Raises:
            TransportError: No answer, although the server has the API.
            ApiError: A refusal, although the server has the API.
        """
        if self.can_find is False:
            return None
        path = f"/api/jobs/{quote(prompt_id, safe='')}"
        try:
            answer = self._http.send("GET", path, **options)
            if answer.status_code in _NO_ROUTE:
                return self._not_found(answer)
            raise_for_status(answer, f"GET {path}")
            job = mapping(json_of(answer, f"GET {path}"))
        except (ApiError, TransportError):
            if self.can_find:
                raise
            return None
        # A gateway may answer with anything; only the API itself names the job.
        state = _STATES.get(text(job.get("status")) or "")
        if job.get("id") != prompt_id or state is None:
            return None
        self.can_find = True
        return state

    def _not_found(self, answer: requests.Response) -> JobState | None:
        if answer.status_code == _NOT_FOUND and answer.headers.get("Content-Type", "").startswith(
            "application/json"
        ):
            # Only an API that has described a job is believed that there is none.
            return JobState.UNKNOWN if self.can_find else None
        self.can_find = False
        return None

    def cancel(self, prompt_id: str, **options: Any) -> bool:
        """Cancel a prompt, and return whether the server answered as the API does.

        Raises:
            TransportError: No answer, although the server has the API.
            ApiError: A refusal, although the server has the API.
        """
        if self.can_cancel is False:
            return False
        path = f"/api/jobs/{quote(prompt_id, safe='')}/cancel"
        try:
            answer = self._http.send("POST", path, repeatable=True, **options)
            if self.can_cancel is None and answer.status_code in _NO_ROUTE:
                self.can_cancel = False
                return False
            raise_for_status(answer, f"POST {path}")
            # A gateway may answer with a page; only the API itself reports `cancelled`.
            reply = mapping(json_of(answer, f"POST {path}"))
        except (ApiError, TransportError):
            if self.can_cancel:
                raise
            return False  # cancel in the old way this time
        is_answered = isinstance(reply.get("cancelled"), bool)
        self.can_cancel = is_answered or self.can_cancel
        return is_answered
