"""Submitting a graph so that it runs only once, even if the answer is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from comfyloom._comfyui.answers import accepted, api_error, no_json, rejection
from comfyloom._comfyui.cancel_scope import CancelScope
from comfyloom._comfyui.client import ComfyUI
from comfyloom._core.redact import log
from comfyloom._core.waiting import Deadline, polling
from comfyloom._http.retry import NO_RETRY, Backoff
from comfyloom._workflow.graph import Graph
from comfyloom.errors import ApiError, RunLost, TransportError

if TYPE_CHECKING:
    import requests

_LOOKUPS: Final = 2
_LATE_CANCELS: Final = 3

_BUSY: Final = 503
_REFUSED: Final = 429
_TIMED_OUT: Final = 408
_SERVER_SIDE: Final = 500
_SILENT: Final = frozenset({_TIMED_OUT, 504})


@attrs.frozen
class Submission:
    """Sends one graph under our own id, and looks it up when there is no valid answer.

    It is sent again only if it certainly did not arrive: the connection was refused, or the server
    was not ready (503) and does not know it in two look-ups. Otherwise a prompt that cannot be
    found is `RunLost`: running it again would pay for the GPU twice.
    """

    server: ComfyUI
    graph: Graph
    client_id: str
    prompt_id: str
    scope: CancelScope = attrs.field(factory=CancelScope)
    backoff: Backoff = attrs.field(factory=Backoff)
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)

    def send(self) -> str:
        """Submit the graph and return its prompt id: ours, or an old server's own.

        Raises:
            PromptRejected: The server rejects it, in full or in part.
            RunLost: It was sent, no answer came, and the server does not know it.
                A server that is gone may be the reason.
            TransportError: The server cannot be reached.
            ApiError: Another refusal.
        """
        delays = self.backoff.delays()
        while isinstance(failure := self._once(), Exception):
            self.scope.checkpoint()
            delay = next(delays, None)
            if delay is None or self.server.is_gone:
                raise failure
            log.warning("submitting again: %s", failure)
            asked_s = failure.retry_after_s if isinstance(failure, ApiError) else 0.0
            self.server.clock.sleep(min(asked_s or delay, self.scope.checkpoint()))
        return failure

    def _once(self) -> str | Exception:
        """Return the prompt id if the server has it, or the reason to send it again."""
        try:
            answer = self.server.post_prompt(
                self.graph,
                client_id=self.client_id,
                prompt_id=self.prompt_id,
                fields=self.fields,
                timeout_s=min(self.server.timeouts.submit_s, self.scope.checkpoint()),
                is_over=self.scope.is_over,
            )
        except TransportError as error:
            if not error.sent:
                return error
            lost = RunLost(_LOST, prompt_id=self.prompt_id)
            return self._demand_known(lost, error, is_silent=error.timed_out)
        return self._judge(answer)

    def _judge(self, answer: requests.Response) -> str | Exception:
        if (refused := rejection(answer)) is not None:
            if answer.status_code < 300:  # the valid part was accepted
                self._withdraw(accepted(answer) or self.prompt_id)
            raise refused
        if 200 <= answer.status_code < 300:
            unreadable = no_json(answer, "POST /prompt")
            return accepted(answer) or self._demand_known(unreadable, unreadable)
        error = api_error(answer, "POST /prompt")
        if answer.status_code == _REFUSED:
            return error
        if answer.status_code == _BUSY:
            # Some gateways deliver it anyway, so look it up for longer.
            return self.prompt_id if self._known(self.server.timeouts.busy_lookup_s) else error
        if answer.status_code >= _SERVER_SIDE or answer.status_code == _TIMED_OUT:
            # A gateway gave up waiting: look up whether the prompt arrived.
            return self._demand_known(error, error, is_silent=answer.status_code in _SILENT)
        raise error

    def _withdraw(self, prompt_id: str) -> None:
        """Cancel a prompt that no caller waits for, until it is gone."""
        timeouts = self.server.timeouts
        deadline = Deadline.after(timeouts.withdraw_s, self.server.clock)
        reason: Exception | str = "the server has not stopped it"
        for _ in polling(timeouts.withdraw_every_s, deadline):  # a single interrupt can get lost
            try:
                self.server.cancel(prompt_id)
                running, pending = self.server.queue(
                    backoff=NO_RETRY, timeout_s=timeouts.cancel_s, is_over=deadline.is_over
                )
                if prompt_id not in (*running, *pending):
                    return
            except (TransportError, ApiError) as error:
                reason = error
        log.warning("run %s may still be running: %s", prompt_id, reason)

    def _demand_known(
        self,
        otherwise: Exception,
        cause: TransportError | ApiError,
        *,
        is_silent: bool = False,
    ) -> str:
        """Return the prompt id if the server knows it, else raise `otherwise`.

        Args:
            otherwise: The error of a server that answers, and does not know the prompt.
            cause: What happened to the prompt: the error of a server that is gone.
            is_silent: Whether the server was silent. If it is given up, it may still run the prompt
                later; one that broke off has ended, and with it its queue, kept only in memory.
        """
        try:
            is_known = not self.server.is_gone and self._known()
        except (TransportError, ApiError):
            if not self.server.is_gone:
                raise
            is_known = False
        if self.server.is_gone:  # nobody is left to be asked
            raise RunLost(_GONE, prompt_id=self.prompt_id) if is_silent else cause
        if not is_known:
            self._cancel_late_delivery()
            raise otherwise
        return self.prompt_id

    def _cancel_late_delivery(self) -> None:
        """Cancel for some seconds: a slow gateway may still deliver the prompt."""
        clock, timeouts = self.server.clock, self.server.timeouts
        for _ in range(_LATE_CANCELS):  # a count, not a deadline: each may itself be slow
            clock.sleep(timeouts.lookup_every_s)
            try:
                self.server.cancel(self.prompt_id)
            except (TransportError, ApiError) as error:
                log.debug("cancelling a late delivery: %s", error)

    def _known(self, for_s: float = 0.0) -> bool:
        """Look the prompt up, twice if the first look-up finds nothing, and for at least `for_s`.

        Raises:
            TransportError, ApiError: No answer for a minute. The server may have the prompt, so it
                is cancelled.
        """
        clock, timeouts = self.server.clock, self.server.timeouts
        misses, least = 0, Deadline.after(for_s, clock)
        deadline = Deadline.after(timeouts.lookup_for_s, clock)
        while True:
            try:
                left_s = self.scope.checkpoint()
            except BaseException:
                self._withdraw(self.prompt_id)
                raise
            limit_s = min(timeouts.lookup_for_s, max(timeouts.last_look_s, left_s))
            timeout_s, limit = min(timeouts.poll_s, limit_s), Deadline.after(limit_s, clock)
            how: dict[str, Any] = {"timeout_s": timeout_s, "is_over": limit.is_over}
            try:
                if self.server.knows(self.prompt_id, backoff=NO_RETRY, **how):
                    return True
                misses += 1
                if misses >= _LOOKUPS and least.over:
                    return False
            except (TransportError, ApiError):
                if self.server.is_gone:
                    raise
                if deadline.over:
                    self._withdraw(self.prompt_id)
                    raise
            clock.sleep(timeouts.lookup_every_s)


_GONE: Final = "the workflow was sent, but no answer came, and the machine does not answer any more"
_LOST: Final = (
    "the workflow was sent, but no answer came and the server does not know it; it was not sent "
    "again, because it might then run twice"
)
