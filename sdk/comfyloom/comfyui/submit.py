"""Submitting a graph so that it runs once, whatever happens to the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom._redact import log
from comfyloom._retry import NO_RETRY, Backoff, Deadline
from comfyloom.comfyui.client import ComfyUI, accepted, api_error, no_json, rejection
from comfyloom.errors import ApiError, RunLost, TransportError
from comfyloom.graph import Graph

if TYPE_CHECKING:
    import requests

LOOKUPS: Final = 2
LOOKUP_S: Final = 1.0
LOOK_FOR_S: Final = 60.0
FOREVER: Final = float("inf")
WITHDRAW_S: Final = 3.0
WITHDRAW_EVERY_S: Final = 0.25

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
    check: Callable[[], float] = lambda: FOREVER

    def send(self) -> str:
        """Submit the graph and return the id that the server runs it under.

        That is the `prompt_id` which was asked for; servers of before it could be asked for draw
        one of their own.

        Raises:
            PromptRejected: The server refuses it, in full or in part.
            RunLost: It was sent, no answer came, and the server knows nothing of it.
            TransportError: The server cannot be reached.
            ApiError: Another refusal.
        """
        delays = self.backoff.delays()
        while isinstance(failure := self._once(), Exception):
            self.check()
            delay = next(delays, None)
            if delay is None:
                raise failure
            log.warning("submitting again: %s", failure)
            self.server.clock.sleep(delay)
        return failure

    def _once(self) -> str | Exception:
        """Return the id of the prompt when the server has it, or the reason to send it again."""
        try:
            answer = self.server.post_prompt(
                self.graph,
                client_id=self.client_id,
                prompt_id=self.prompt_id,
                timeout_s=min(self.server.patience.submit_s, self.check()),
            )
        except TransportError as error:
            if not error.sent:
                return error
            return self._demand_known(RunLost(_LOST, prompt_id=self.prompt_id))
        return self._judge(answer)

    def _judge(self, answer: requests.Response) -> str | Exception:
        if (refused := rejection(answer)) is not None:
            if answer.status_code < 300:  # the part that is valid was accepted all the same
                self._withdraw(accepted(answer) or self.prompt_id)
            raise refused
        if 200 <= answer.status_code < 300:
            return accepted(answer) or self._demand_known(no_json(answer, "POST /prompt"))
        error = api_error(answer, "POST /prompt")
        if answer.status_code == _REFUSED:
            return error
        if answer.status_code == _BUSY:
            return self.prompt_id if self._known() else error
        if answer.status_code in _UNKNOWN:
            return self._demand_known(error)
        raise error

    def _withdraw(self, prompt_id: str) -> None:
        """Cancel what the server may run although nobody waits for it, until it is gone."""
        deadline = Deadline.after(WITHDRAW_S, self.server.clock)
        told: Exception | str = "the server does not stop it"
        while not deadline.over:
            try:
                self.server.cancel(prompt_id)
                running, pending = self.server.queue(backoff=NO_RETRY)
                if prompt_id not in (*running, *pending):
                    return
            except (TransportError, ApiError) as error:
                told = error
            self.server.clock.sleep(WITHDRAW_EVERY_S)  # a single interrupt can get lost
        log.warning("run %s may go on: %s", prompt_id, told)

    def _demand_known(self, otherwise: Exception) -> str:
        if not self._known():
            raise otherwise
        return self.prompt_id

    def _check_or_withdraw(self) -> None:
        """Leave, if it is time to; the prompt may be there, and must not run for nobody."""
        try:
            self.check()
        except BaseException:
            self._withdraw(self.prompt_id)
            raise

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
                    self._withdraw(self.prompt_id)
                    raise
            self._check_or_withdraw()
            self.server.clock.sleep(LOOKUP_S)


_LOST: Final = (
    "the workflow was sent, but no answer came and the server knows nothing of it; it was not sent "
    "again, because it might then run twice"
)
