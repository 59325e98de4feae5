"""The jobs API of newer ComfyUI servers: it cancels a prompt in one step."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import attrs

from comfyloom._comfyui.answers import json_of, raise_for_status
from comfyloom._core.json import mapping
from comfyloom._http.transport import Transport
from comfyloom.errors import ApiError, TransportError

# Servers without the jobs API answer a POST on its path with one of these.
_NO_ROUTE: Final = frozenset({404, 405})


@attrs.define(eq=False)
class JobsApi:
    """Cancels prompts, if the server can; the first valid answer shows whether it can.

    Attributes:
        is_there: Whether the server has the API, None while not known.
    """

    _http: Transport
    is_there: bool | None = attrs.field(default=None, init=False)

    def cancel(self, prompt_id: str, **options: Any) -> bool:
        """Cancel a prompt, and return whether the server answered as the API does.

        Raises:
            TransportError: No answer, although the server has the API.
            ApiError: A refusal, although the server has the API.
        """
        if self.is_there is False:
            return False
        path = f"/api/jobs/{quote(prompt_id, safe='')}/cancel"
        try:
            answer = self._http.send("POST", path, repeatable=True, **options)
            if self.is_there is None and answer.status_code in _NO_ROUTE:
                self.is_there = False
                return False
            raise_for_status(answer, f"POST {path}")
            # A gateway may answer with a page; only the API itself reports `cancelled`.
            reply = mapping(json_of(answer, f"POST {path}"))
        except (ApiError, TransportError):
            if self.is_there:
                raise
            return False  # cancel in the old way this time
        is_answered = isinstance(reply.get("cancelled"), bool)
        self.is_there = is_answered or self.is_there
        return is_answered
