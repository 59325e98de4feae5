"""Submitting a graph so that it runs once, whatever happens to the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI, accepted, api_error, no_json, rejection
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._workflow.graph import Graph
from comfyloom.errors import ApiError, RunLost, TransportError

if TYPE_CHECKING:
    import requests

_LOOKUPS: Final = 2
_SHORTEST_S: Final = 0.5

_BUSY: Final = 503
_REFUSED: Final = 429
_TIMED_OUT: Final = 408
_SERVER_SIDE: Final = 500


@attrs.frozen
class Submission:
    """Sends one graph under an id of our own, and looks it up when the answer fails.

    It is sent again only when it surely did not arrive: the connection was refused, or the server
    was not ready (503) and knows nothing of it in two looks. In any other case a prompt that
    cannot be found is `RunLost`: a second run would cost the GPU twice.
    """

    server: ComfyUI
    graph: Graph
    client_id: str
    prompt_id: str
    scope: CancelScope = attrs.field(factory=CancelScope)
    backoff: Backoff = attrs.field(factory=Backoff)

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
            self.scope.checkpoint()
            delay = next(delays, None)
            if delay is None:
                raise failure
            log.warning("submitting again: %s", failure)
            asked_s = failure.retry_after_s if isinstance(failure, ApiError) else 0.0
            self.server.clock.sleep(min(asked_s or delay, self.scope.checkpoint()))
        return failure

    def _once(self) -> str | Exception:
        """Return the id of the prompt when the server has it, or the reason to send it again."""
        try:
            answer = self.server.post_prompt(
                self.graph,
                client_id=self.client_id,
                prompt_id=self.prompt_id,
                timeout_s=min(self.server.timeouts.submit_s, self.scope.checkpoint()),
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
            # Some gateways say so after they have delivered it, so this takes a longer look.
            return self.prompt_id if self._known(self.server.timeouts.busy_lookup_s) else error
        if answer.status_code >= _SERVER_SIDE or answer.status_code == _TIMED_OUT:
            # A gateway gave up: whether the prompt came through behind it, only a look can tell.
            return self._demand_known(error)
        raise error

    def _withdraw(self, prompt_id: str) -> None:
        """Cancel what the server may run although nobody waits for it, until it is gone."""
        timeouts = self.server.timeouts
        deadline = Deadline.after(timeouts.withdraw_s, self.server.clock)
        reason: Exception | str = "the server does not stop it"
        for _ in polling(timeouts.withdraw_every_s, deadline):  # a single interrupt can get lost
            try:
                self.server.cancel(prompt_id)
                running, pending = self.server.queue(backoff=NO_RETRY, timeout_s=timeouts.cancel_s)
                if prompt_id not in (*running, *pending):
                    return
            except (TransportError, ApiError) as error:
                reason = error
        log.warning("run %s may go on: %s", prompt_id, reason)

    def _demand_known(self, otherwise: Exception) -> str:
        if not self._known():
            self._cancel_what_may_come()
            raise otherwise
        return self.prompt_id

    def _cancel_what_may_come(self) -> None:
        """Cancel for some seconds: a slow gateway may still deliver what nobody waits for."""
        clock, timeouts = self.server.clock, self.server.timeouts
        deadline = Deadline.after(timeouts.late_delivery_s, clock)
        while not deadline.over:
            clock.sleep(timeouts.lookup_every_s)
            try:
                self.server.cancel(self.prompt_id)
            except (TransportError, ApiError) as error:
                log.debug("cancelling what may come: %s", error)

    def _left_or_withdrawn(self) -> float:
        """Return the seconds that are left; when none are, the prompt must not run for nobody."""
        try:
            return self.scope.checkpoint()
        except BaseException:
            self._withdraw(self.prompt_id)
            raise

    def _known(self, for_s: float = 0.0) -> bool:
        """Look the prompt up, twice when the first look finds nothing, and for at least `for_s`.

        Raises:
            TransportError, ApiError: The server does not tell for a minute. It may have the prompt,
                so it is asked to cancel it.
        """
        clock, timeouts = self.server.clock, self.server.timeouts
        misses, least = 0, Deadline.after(for_s, clock)
        deadline = Deadline.after(timeouts.lookup_for_s, clock)
        while True:
            timeout_s = min(timeouts.poll_s, max(_SHORTEST_S, self._left_or_withdrawn()))
            try:
                how: dict[str, Any] = {"backoff": NO_RETRY, "timeout_s": timeout_s}
                if self.server.knows(self.prompt_id, **how):
                    return True
                misses += 1
                if misses >= _LOOKUPS and least.over:
                    return False
            except (TransportError, ApiError):
                if deadline.over:
                    self._withdraw(self.prompt_id)
                    raise
            clock.sleep(timeouts.lookup_every_s)


_LOST: Final = (
    "the workflow was sent, but no answer came and the server knows nothing of it; it was not sent "
    "again, because it might then run twice"
)
