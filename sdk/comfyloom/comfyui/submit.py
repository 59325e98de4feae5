"""Submitting a graph so that it runs once, whatever happens to the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom._redact import log
from comfyloom._retry import Backoff, Deadline
from comfyloom.comfyui.client import ComfyUI, api_error, rejection
from comfyloom.errors import ApiError, RunLost, TransportError
from comfyloom.graph import Graph

if TYPE_CHECKING:
    import requests

LOOKUPS: Final = 2
LOOKUP_S: Final = 1.0
LOOK_FOR_S: Final = 60.0
ANSWER_S: Final = 60.0

_BUSY: Final = 503
_REFUSED: Final = 429
# A gateway gave up: whether the prompt came through behind it, only a look can tell.
_UNKNOWN: Final = frozenset({500, 502, 504})


@attrs.frozen
class Submission:
    """Sends one graph under an id of our own, and looks it up when the answer fails.

    It is sent again only when it surely did not arrive: the connection was refused, or the server
    was not ready (503) and knows nothing of it in two looks. In any other case a prompt that
    cannot be found is `RunLost`: a second run would cost the GPU twice. `check` gives the seconds
    that are left, or ends it by raising.
    """

    server: ComfyUI
    graph: Graph
    client_id: str
    prompt_id: str
    backoff: Backoff = attrs.field(factory=Backoff)
    check: Callable[[], float] = lambda: ANSWER_S

    def send(self) -> None:
        """Submit the graph; when this returns, the server has it.

        Raises:
            PromptRejected: The server refuses it, in full or in part.
            RunLost: It was sent, no answer came, and the server knows nothing of it.
            TransportError: The server cannot be reached.
            ApiError: Another refusal.
        """
        delays = self.backoff.delays()
        while (failure := self._once()) is not None:
            self.check()
            delay = next(delays, None)
            if delay is None:
                raise failure
            log.warning("submitting again: %s", failure)
            self.server.clock.sleep(delay)

    def _once(self) -> Exception | None:
        """Return None when the server has the prompt, or the reason to send it again."""
        try:
            answer = self.server.post_prompt(
                self.graph,
                client_id=self.client_id,
                prompt_id=self.prompt_id,
                timeout_s=min(ANSWER_S, self.check()),
            )
        except TransportError as error:
            if not error.sent:
                return error
            self._demand_known(RunLost(_LOST, prompt_id=self.prompt_id))
            return None
        return self._judge(answer)

    def _judge(self, answer: requests.Response) -> Exception | None:
        if (refused := rejection(answer)) is not None:
            if answer.status_code < 300:  # the part that is valid was accepted all the same
                self._withdraw()
            raise refused
        if answer.status_code < 300:
            return None
        error = api_error(answer, "POST /prompt")
        if answer.status_code == _REFUSED:
            return error
        if answer.status_code == _BUSY:
            return None if self._known() else error
        if answer.status_code in _UNKNOWN:
            self._demand_known(error)
            return None
        raise error

    def _withdraw(self) -> None:
        """Cancel what the server may run although nobody waits for it."""
        try:
            self.server.cancel(self.prompt_id)
        except (TransportError, ApiError) as error:
            log.warning("run %s may go on: %s", self.prompt_id, error)

    def _demand_known(self, otherwise: Exception) -> None:
        if not self._known():
            raise otherwise

    def _known(self) -> bool:
        """Look the prompt up, twice when the first look finds nothing.

        Raises:
            TransportError, ApiError: The server does not tell for a minute. It may have the prompt,
                so it is asked to cancel it.
        """
        misses = 0
        deadline = Deadline.after(LOOK_FOR_S, self.server.clock)
        while True:
            try:
                if self.server.knows(self.prompt_id):
                    return True
                misses += 1
                if misses == LOOKUPS:
                    return False
            except (TransportError, ApiError):
                if deadline.over:
                    self._withdraw()
                    raise
            self.check()
            self.server.clock.sleep(LOOKUP_S)


_LOST: Final = (
    "the workflow was sent, but no answer came and the server knows nothing of it; it was not sent "
    "again, because it might then run twice"
)
